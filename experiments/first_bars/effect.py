"""A steer from SST-5 on the bundled model, judged by a word list and by a classifier.

python -m experiments.first_bars.effect --data ../shared/data

The steer learns from SST train alone; the shipped classifier has never met SST, nor has the
language model.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import numpy as np

import lmsteer
from lmsteer.generation.records import by_mix
from lmsteer.metrics.diversity import distinct
from lmsteer.metrics.fluency import perplexity
from lmsteer.metrics.scorers import load_scorer
from lmsteer.metrics.style import positive_rate


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--strengths", type=float, nargs="+", default=[-3, -2, -1, 0, 1, 2, 3])
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--solver", default="convex")
    parser.add_argument("--rank", type=int)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--prompts", type=int, default=50)
    args = parser.parse_args()
    model, tokenizer = lmsteer.load_model(args.model)
    examples = lmsteer.read_examples(
        args.data / "sst/sst_train.jsonl", label="label5", scale=(0, 4)
    )
    steer = lmsteer.train(
        model,
        tokenizer,
        examples,
        name="sentiment",
        solver=args.solver,
        rank=args.rank,
        calibrate=False,
    )
    print(json.dumps(steer.record["held_out"]), json.dumps(steer.record["rank"]))
    print(f"{steer.record['seconds']} s")
    records = lmsteer.generate(
        model,
        tokenizer,
        lmsteer.read_prompts("bundled:neutral")[: args.prompts],
        samples=args.samples,
        max_new_tokens=args.tokens,
        min_new_tokens=args.tokens,
        top_p=0.9,
        strengths=[{steer: s} for s in args.strengths],
    )
    vader, classifier = load_scorer("vader"), load_scorer("sentiment")
    words = {
        word: side
        for side, name in ((1, "positive"), (-1, "negative"))
        for word in (args.data / f"lexicons/{name}-words.txt").read_text("latin-1").split("\n")
        if word and not word.startswith(";")
    }

    def opinion(texts: list[str]) -> np.ndarray:
        """Positive less negative words of the Hu and Liu list."""
        found = [re.findall(r"[a-z][a-z'*+-]*", text.lower()) for text in texts]
        return np.array([sum(words.get(word, 0) for word in row) for row in found])

    print("| strength | VADER | Hu and Liu words | classifier | perplexity | distinct-2 |")
    print("|---:|---|---|---|---|---|")
    for strength, part in zip(args.strengths, by_mix(records, len(args.strengths)), strict=True):
        texts = [r.text for r in part]
        figures = [
            positive_rate(part, vader(texts)),
            positive_rate(part, opinion(texts)),
            positive_rate(part, classifier(texts)),
            perplexity(model, tokenizer, part),
            distinct(part, 2),
        ]
        print(f"| {strength:+g} | {' | '.join(map(str, figures))} |", flush=True)


if __name__ == "__main__":
    main()
