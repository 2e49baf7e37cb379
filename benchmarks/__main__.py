"""`python -m benchmarks train`: the cached solver against the official recipe, in one run."""

from __future__ import annotations

import argparse
import json
import platform

import torch

import lmsteer


def main() -> None:
    """Train both on the same examples and print when each reached what."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["train"])
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--data", default="bundled:sentiment")
    parser.add_argument("--label", default="label")
    parser.add_argument("--scale", type=float, nargs=2)
    parser.add_argument("--steps", type=int, default=300, help="steps of the official recipe")
    args = parser.parse_args()
    model, tokenizer = lmsteer.load_model(args.model)
    scale = tuple(args.scale) if args.scale else None
    examples = lmsteer.read_examples(args.data, label=args.label, scale=scale)
    paper = lmsteer.train(
        model, tokenizer, examples, solver="paper", steps=args.steps, max_length=256
    )
    cached = lmsteer.train(model, tokenizer, examples, solver="cached", max_length=256)
    courses = {s.record["solver"]: s.record["course"]["held_out_nll"] for s in (paper, cached)}
    best = min(nll for _, _, nll in courses["paper"])
    paper_seconds = courses["paper"][-1][0]
    reached = next((seconds for seconds, _, nll in courses["cached"] if nll <= best), None)
    print(
        json.dumps(
            {
                "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
                "tokens": cached.record["data"]["tokens"],
                "nll_base": cached.record["held_out"]["nll_base"],
                "paper": {"steps": args.steps, "seconds": paper_seconds, "best_nll": best},
                "cached": {
                    "seconds_to_paper_best": reached,
                    "seconds": courses["cached"][-1][0],
                    "best_nll": cached.record["held_out"]["nll"],
                },
                "time_ratio": reached and reached / paper_seconds,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
