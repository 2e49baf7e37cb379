r"""Does it matter which texts are held out? Steers of several salts, judged on other text.

python -m experiments.held_out_salts.salts --data SST_TRAIN.jsonl --judge SST_DEV.jsonl \
    --label label5 --scale 0 4
"""

from __future__ import annotations

import argparse
import json

import torch

import lmsteer
from lmsteer.model.head import read_head
from lmsteer.states.hidden import read_states
from lmsteer.text.encoding import encode
from lmsteer.training.objective import Map, mean_nll


def main() -> None:
    """Print the NLL of each salt's steer on the texts to judge on."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--data", default="bundled:sentiment")
    parser.add_argument("--judge", default="bundled:sentiment", help="the texts to judge on")
    parser.add_argument("--label", default="label")
    parser.add_argument("--scale", type=float, nargs=2)
    args = parser.parse_args()
    model, tokenizer = lmsteer.load_model(args.model)
    scale = tuple(args.scale) if args.scale else None
    examples = lmsteer.read_examples(args.data, label=args.label, scale=scale)
    judge = lmsteer.read_examples(args.judge, label=args.label, scale=scale)
    states = read_states(model, encode(tokenizer, judge, max_length=1024))
    head = read_head(model)
    found = {}
    for salt in ("", "second", "third"):
        steer = lmsteer.train(
            model, tokenizer, examples, salt=salt, calibrate=False, solver="convex"
        )
        parts = torch.stack([steer.matrix(), steer.domain.matrix()])
        found[salt or "first"] = mean_nll(head, states, Map(parts, domain=True))
    values = list(found.values())
    told = {"tokens": len(states), "nll_base": mean_nll(head, states, None), "nll": found}
    print(json.dumps({**told, "spread": max(values) - min(values)}, indent=1))


if __name__ == "__main__":
    main()
