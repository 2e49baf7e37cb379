"""What ridge and rank separate held-out labels, at a divergence of 0.1 nats per token.

python -m experiments.one_shot.separate --model smollm2 --texts 1500

One damped Newton step from the base model (`lmsteer.training.solvers.newton`), for ridges and
ranks. Separation: the NLL of SST test under the flipped label less that under the right one, in
nats per token, with the map scaled until the exact divergence is 0.1. Beside it the quick figure by
which training chooses (`training.separation`), times the root of 0.1.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import torch

import lmsteer
from experiments.shared.text import rows
from lmsteer.metrics.kl import divergence
from lmsteer.model import read_head, token_nll
from lmsteer.states import States, read_states
from lmsteer.text import encode
from lmsteer.training.curvature import Curvature, Directions
from lmsteer.training.objective import Map, expected_descent
from lmsteer.training.separation import Separation
from lmsteer.training.solvers.choosing import Work

TARGET = 0.1
RIDGES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
RANKS = (2, 4, 8, 16, 32, 64, 128)


def texts(data: Path, split: str, count: int | None) -> list[lmsteer.Example]:
    """Sentences that are not neutral, in an order that a seed decides."""
    found = [
        lmsteer.Example(row["text"], row["label5"] / 2 - 1)
        for row in rows(data / f"sst/sst_{split}.jsonl")
        if row["label2"] is not None
    ]
    random.Random(0).shuffle(found)
    return found[:count]


def separation(head: lmsteer.model.Head, states: States, W: torch.Tensor) -> float:
    """Nats per token at the divergence `TARGET`."""
    steer, size = lmsteer.Steer.from_matrix(W), 1.0
    for _ in range(6):
        told = divergence(head, states.hidden.float(), steer, [size, -size])
        mean = sum(told.values()) / 2
        if abs(mean / TARGET - 1) < 0.02:
            break
        size *= (TARGET / mean) ** 0.5
    moved = size * states.labels.sign() * (states.hidden.float() @ W)
    right, flipped = (
        float(token_nll(head, states.hidden.float() + sign * moved, states.targets).mean())
        for sign in (1, -1)
    )
    return flipped - right


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--texts", type=int)
    args = parser.parse_args()
    model, tokenizer = lmsteer.load_model(args.model)
    head = read_head(model)
    learned, held = (
        read_states(model, encode(tokenizer, texts(args.data, split, count)), fast=True)
        for split, count in (("train", args.texts), ("test", 400))
    )
    work = Work(head.fast(), learned, held)
    judge, seen = Separation.of(head, held, work.centre), held.spread(2048)
    zero = Map.zeros(learned, domain=False)
    outlook = work.outlook(zero)
    values = learned.labels - work.centre
    pull, inner = expected_descent(work.head, learned, zero, outlook, values)
    curvature = Curvature.of(inner, outlook.curvature)

    def show(name: str, W: torch.Tensor) -> None:
        quick = judge.efficiency(W, 0) * TARGET**0.5
        print(f"{name}: {separation(head, seen, W):.4f}, quick {quick:.4f}", flush=True)

    print(f"{args.model}, {len(learned)} tokens")
    for ridge in RIDGES:
        show(f"ridge {ridge:g}", curvature.damped_inverse(ridge)(pull)[0])
    directions = Directions.of(curvature.damped_inverse(3.0)(pull)[0], curvature, 0)
    for rank in RANKS:
        show(f"ridge 3, rank {rank}", directions.matrix(rank))


if __name__ == "__main__":
    main()
