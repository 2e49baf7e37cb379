"""The steers that are compared: trained once, kept in WORK.

python -m experiments.input_vs_output.steers --data ../shared/data --work WORK

| name | site | learned from |
|---|---|---|
| `in` | input | SST-5 train, all positions |
| `in-halves` | input, prompts only | SST-5 train: the first half of a sentence before the second |
| `in-reading` | input, prompts only | SST-5 sentences and half a verdict before one word |
| `out-reading` | output | the same as `in-reading` |
| `in-detox`, `in-subjectivity` | input | what the shipped steers of these names learned from |
| `in-small` | input | as `in`, on `bundled-small` |

The output site's own are the shipped steers. What is already in WORK is not learned again.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import lmsteer
from experiments.shared import styles
from lmsteer import Example

GOOD = "good great excellent wonderful amazing fantastic brilliant perfect superb beautiful".split()
BAD = "bad terrible awful horrible boring poor stupid weak dull disappointing".split()
# Other sentences than the ones whose reading is measured ("Overall it was"), and other frames.
FRAMES = ("All in all this is", "In short, the film is", "The whole thing felt", "I found it")
RANDOM_SENTENCES = 3000


def halves(examples: list[Example]) -> list[Example]:
    """Each text cut in the middle: the first half is the prompt."""
    found = []
    for e in examples:
        words = e.text.split(" ")
        if len(words) >= 6:
            half = len(words) // 2
            found.append(
                Example(" " + " ".join(words[half:]), e.label, prompt=" ".join(words[:half]))
            )
    return found


def verdicts(examples: list[Example], seed: int = 0) -> list[Example]:
    """A sentence of any sentiment and half a verdict before a word; the word is the label's.

    What a sentence says has nothing to do with its label here, so that a steer can only learn to
    read every sentence as if it said so.
    """
    chance = random.Random(seed)
    found = []
    for e in chance.sample(examples, RANDOM_SENTENCES):
        label = chance.choice((1.0, -1.0))
        word = chance.choice(GOOD if label > 0 else BAD)
        found.append(Example(f" {word}", label, prompt=f"{e.text} {chance.choice(FRAMES)}"))
    return found


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", nargs="*", help="names of steers")
    args = parser.parse_args()
    sst = list(styles.sentiment(args.data).examples)
    wanted = {
        "in-reading": ("bundled", verdicts(sst), {"where": "prompt", "steps": 300}),
        "out-reading": ("bundled", verdicts(sst), {"site": "output", "solver": "convex"}),
        "in": ("bundled", sst, {}),
        "in-halves": ("bundled", halves(sst), {"where": "prompt"}),
        "in-detox": ("bundled", list(styles.detox(args.data).examples), {"steps": 400}),
        "in-subjectivity": (
            "bundled",
            list(styles.subjectivity(args.data).examples),
            {"steps": 300},
        ),
        "in-small": ("bundled-small", sst, {}),
    }
    for name, (model_name, examples, options) in wanted.items():
        if (args.work / name).exists() or (args.only and name not in args.only):
            continue
        model, tokenizer = lmsteer.load_model(model_name)
        began = time.perf_counter()
        steer = lmsteer.train(
            model,
            tokenizer,
            examples,
            name=name,
            balance=name == "in-detox",
            calibrate=False,
            **{"site": "input", **options},
        )
        steer.save(args.work / name)
        held_out = {k: v for k, v in steer.record.items() if "held" in k or k == "steps"}
        print(name, f"{time.perf_counter() - began:.0f} s", held_out, flush=True)


if __name__ == "__main__":
    main()
