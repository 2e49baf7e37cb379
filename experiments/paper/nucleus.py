"""Whose gain is the nucleus: a steer, and the paper's word blacklist, each with either one.

python experiments/paper/nucleus.py sentiment --work WORK
python experiments/paper/nucleus.py detox --work WORK

Drawing from the unsteered model's nucleus (`nucleus="base"`) is open to every method that acts on
the head alone. `data.py` prepares WORK. Writes `results/nucleus-TASK.md` and `.json`.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

from each_strength import short
from setting import facts, load_model, parser, stem, write

import lmsteer
from lmsteer.baselines import SWB
from lmsteer.comparison import METHODS, Goal, Row, Settings, compare
from lmsteer.comparison.curves import best_within
from lmsteer.comparison.report import RATIOS, points
from lmsteer.metrics import load_scorer

GOALS = {
    "sentiment": {
        "positive": Goal(1, "sentiment", False),
        "negative": Goal(-1, "sentiment", True),
    },
    "detox": {"detox": Goal(1, "toxicity.any", True)},
}


class WithinSWB(SWB):
    """The blacklist within the base model's nucleus."""

    name = "swb-nucleus"
    strengths = (3.0, 6.0, 9.0)
    generate_options = {"nucleus": "base"}  # noqa: RUF012 - never changed


def main() -> None:
    """Run from the command line."""
    found = parser(__doc__)
    found.add_argument("task", choices=list(GOALS))
    found.add_argument("--work", type=Path, required=True)
    found.add_argument("--count", type=int, default=100)
    args = found.parse_args()
    METHODS[WithinSWB.name] = WithinSWB
    names = ["lm-steer", "lm-steer-nucleus", "swb", "swb-nucleus"]
    scorer = "sentiment" if args.task == "sentiment" else "toxicity"
    goals = GOALS[args.task]
    rows = compare(
        *load_model(args),
        names,
        lmsteer.read_examples(args.work / f"{args.task}.jsonl"),
        lmsteer.read_prompts(args.work / f"{args.task}_prompts.txt")[: args.count],
        {scorer: load_scorer(scorer)},
        signs=[goal.sign for goal in goals.values()],
        settings=Settings(batch_size=args.batch_size),
        worst=args.task == "detox",
        folder=args.work / f"nucleus-{args.task}",
        done=lambda row: print(row.name, file=sys.stderr),
    )
    told = facts(args, prompts=args.count, samples=25, tokens=20, top_p=0.9)
    lines = [f"# {args.task}: the steered model's nucleus, and the base model's", ""]
    for name, goal in goals.items():
        lines += _table(name, goal, rows)
    plain = {"facts": told, "rows": [asdict(row) for row in rows]}
    write(stem(args, f"nucleus-{args.task}"), plain, lines)


def _table(name: str, goal: Goal, rows: list[Row]) -> list[str]:
    heads = " | ".join(f"at most x{ratio:g}" for ratio in RATIOS)
    lines = [f"## {name}: {goal.told}", "", f"| method | {heads} |", "|---|" + "---|" * len(RATIOS)]
    for row in rows:
        curve = points(row, goal)
        cells = [short(asdict(best_within(curve, ratio))) for ratio in RATIOS]
        lines.append(f"| {row.name} | {' | '.join(cells)} |")
    return [*lines, ""]


if __name__ == "__main__":
    main()
