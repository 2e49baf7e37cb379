"""What steers separate held-out labels, at a divergence of 0.1 nats per token.

python -m experiments.one_shot.separate --model smollm2 --texts 1500

Separation: the NLL of SST test under the flipped label less that under the right one, in nats per
token, with the map scaled until the exact divergence is 0.1; with its 95% interval, by a bootstrap
over the texts. Beside the default training stand `convex`, and what `solve` makes of the sums of
the same texts, at several ridges and ranks.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import torch

import lmsteer
from experiments.shared.text import rows
from lmsteer.metrics.kl import divergence
from lmsteer.model import Head, read_head, token_nll
from lmsteer.states import States, read_states
from lmsteer.text import encode

TARGET = 0.1
RIDGES = (0.1, 0.3, 1.0, 3.0, 10.0)
RANKS = (4, 16, 64, 256)


def texts(data: Path, split: str, count: int | None) -> list[lmsteer.Example]:
    """Sentences that are not neutral, in an order that a seed decides."""
    found = [
        lmsteer.Example(row["text"], row["label5"] / 2 - 1)
        for row in rows(data / f"sst/sst_{split}.jsonl")
        if row["label2"] is not None
    ]
    random.Random(0).shuffle(found)
    return found[:count]


def separation(head: Head, states: States, steer: lmsteer.Steer) -> tuple[float, float, float]:
    """Nats per token at the divergence `TARGET`, and its interval."""
    hidden, size = states.hidden.float(), 1.0
    for _ in range(6):
        told = divergence(head, hidden, steer, [size, -size])
        mean = sum(told.values()) / 2
        if abs(mean / TARGET - 1) < 0.02:
            break
        size *= (TARGET / mean) ** 0.5
    moved = size * states.labels.sign() * ((hidden @ steer.P) @ steer.Q.T)
    right, flipped = (
        token_nll(head, hidden + sign * moved, states.targets) for sign in (1.0, -1.0)
    )
    gained = flipped - right
    number = states.text.unique(return_inverse=True)[1]
    sums = torch.zeros(int(number.max()) + 1).index_add_(0, number, gained)
    counts = torch.bincount(number).float()
    drawn = torch.randint(len(sums), (2000, len(sums)), generator=torch.Generator().manual_seed(0))
    means = (sums[drawn].sum(1) / counts[drawn].sum(1)).quantile(torch.tensor([0.025, 0.975]))
    return float(gained.mean()), float(means[0]), float(means[1])


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--texts", type=int)
    parser.add_argument("--judged", type=int, default=400, help="texts of SST test")
    parser.add_argument(
        "--convex", action="store_true", help="the solver convex too, which is slow"
    )
    args = parser.parse_args()
    model, tokenizer = lmsteer.load_model(args.model)
    head = read_head(model)
    learned = texts(args.data, "train", args.texts)
    judged = encode(tokenizer, texts(args.data, "test", args.judged), max_length=256)
    held = read_states(model, judged, fast=True)
    print(f"{args.model}, {len(learned)} texts, judged on {len(held)} tokens", flush=True)

    def show(name: str, begun: float, steer: lmsteer.Steer) -> None:
        seconds = time.perf_counter() - begun
        found, low, high = separation(head, held, steer)
        told = f"{name} (rank {steer.rank}, {seconds:.1f} s)"
        print(f"{told}: {found:.4f} [{low:.4f}, {high:.4f}]", flush=True)

    for solver in ("newton", *(["convex"] if args.convex else [])):
        begun = time.perf_counter()
        show(
            solver,
            begun,
            lmsteer.train(model, tokenizer, learned, solver=solver, calibrate=False),
        )
    begun = time.perf_counter()
    sums = [lmsteer.read_statistics(model, tokenizer, learned[k::4]) for k in range(4)]
    print(f"the sums of four quarters take {time.perf_counter() - begun:.1f} s")
    begun = time.perf_counter()
    show("solve, the ridge chosen by quarters", begun, lmsteer.solve(sums, model))
    whole = sum(sums[1:], sums[0])
    for ridge in RIDGES:
        begun = time.perf_counter()
        show(f"solve, ridge {ridge:g}", begun, lmsteer.solve(whole, model, ridge=ridge, rank=16))
    for rank in RANKS:
        begun = time.perf_counter()
        show("solve, ridge 3", begun, lmsteer.solve(whole, model, ridge=3.0, rank=rank))


if __name__ == "__main__":
    main()
