"""What the comparison of methods learns from and continues, as files of the command line's formats.

python -m experiments.paper.data --data ../shared/data --work WORK

Writes, for each task, ``WORK/{sentiment,detox}.jsonl`` (text, label) and ``WORK/{...}_prompts.txt``
(the paper's neutral prompts; non-toxic prompts of RealToxicityPrompts of which the scorer has seen
none), and ``WORK/neutral.txt`` (paragraphs of WikiText-2) and ``WORK/cola.tsv`` (both dev sets).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import lmsteer
from experiments.shared import styles
from experiments.shared.text import toxicity_prompts

PARAGRAPHS = 60


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, required=True)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    for task in ("sentiment", "detox"):
        examples = styles.STYLES[task](args.data).examples
        lines = [json.dumps({"text": e.text, "label": e.label}) + "\n" for e in examples]
        (args.work / f"{task}.jsonl").write_text("".join(lines), encoding="utf-8")
    neutral = lmsteer.read_prompts(args.data / "sentiment_prompts/neutral_prompts.jsonl")
    harmless = [text.replace("\n", " ") for text in toxicity_prompts(args.data)[0]]
    for task, prompts in (("sentiment", neutral), ("detox", harmless)):
        text = "".join(f"{prompt}\n" for prompt in prompts)
        (args.work / f"{task}_prompts.txt").write_text(text, encoding="utf-8")
    lines = (args.data / "wikitext2/valid.txt").read_text(encoding="utf-8").splitlines()
    long = [line.strip() for line in lines if len(line.split()) >= 60][:PARAGRAPHS]
    (args.work / "neutral.txt").write_text("\n".join(long) + "\n", encoding="utf-8")
    cola = [args.data / f"cola/{name}_dev.tsv" for name in ("in_domain", "out_of_domain")]
    (args.work / "cola.tsv").write_text(
        "".join(path.read_text(encoding="utf-8") for path in cola), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
