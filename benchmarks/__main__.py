"""`python -m benchmarks train`: see RESULTS.md for what was measured."""

from __future__ import annotations

import argparse
import json

from . import engines, generation, memory, reading, real, training


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["train", "generate", "read", "engines", "real", "memory"])
    parser.add_argument("--model", default="bundled", help="also random-gpt2, for time only")
    parser.add_argument("--data", default="bundled:sentiment")
    parser.add_argument("--label", default="label")
    parser.add_argument("--scale", type=float, nargs=2)
    parser.add_argument("--steps", type=int, default=1000, help="steps of the official recipe")
    parser.add_argument("--repeats", type=int, default=3, help="of the quick arms")
    parser.add_argument("--quick-only", action="store_true", help="leave the official recipe out")
    parser.add_argument("--arm", help="one arm alone, in this process")
    parser.add_argument("--texts", type=int, default=300, help="for real and memory")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32, 64], help="for real")
    parser.add_argument("--part", action="append", help="for real: pass, generation, memory")
    parser.add_argument("--prompts", type=int, default=100, help="for generate")
    parser.add_argument("--official-prompts", type=int, default=8, help="of these, one by one")
    parser.add_argument("--steer", default="sentiment", help="for read")
    parser.add_argument("--dtype", default="float32", help="for engines")
    args = parser.parse_args()
    if args.what == "engines":
        engines.run(args)
        return
    if args.what == "generate":
        generation.run(args)
        return
    if args.what == "read":
        reading.run(args)
        return
    if args.what in ("real", "memory"):
        (real if args.what == "real" else memory).run(args)
        return
    if args.arm:
        print(json.dumps(training.run_arm(args.arm, args)))
    else:
        training.run(args)


if __name__ == "__main__":
    main()
