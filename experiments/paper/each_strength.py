"""Every strength of every method, in the metric's own direction, with the paper's rows between."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.paper import paper
from experiments.paper.paper import ACL, V1

PROMPTS = {"sentiment": "neutral", "detox": "non-toxic"}
SHOWN = {
    "sentiment": ("sentiment", "distinct_1", "distinct_2", "distinct_3"),
    "detox": ("toxicity.max", "toxicity.any", "distinct_1", "distinct_2", "distinct_3"),
}
KEPT = ("neutral", "acceptability")
TITLES = {
    "sentiment": "judged positive",
    "toxicity.max": "max toxicity",
    "toxicity.any": "toxicity probability",
    "neutral": "neutral text, perplexity",
    "acceptability": "acceptability, AUC",
}


def every_strength(task: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each strength of each method, and under it the paper's numbers of the method."""
    kept = [name for name in KEPT if name in rows[0]["base"]]
    shown = [*SHOWN[task], *kept]
    heads = [TITLES.get(name, name.replace("distinct_", "dist-")) for name in shown]
    lines = [
        "## Each strength",
        "",
        f"| method | strength | perplexity ratio | {' | '.join(heads)} |",
        "|---|---:|---:" + "|---:" * len(heads) + "|",
    ]
    base = {"name": "base", "base": rows[0]["base"], "figures": {"0": rows[0]["base"]}}
    for row in (base, *rows):
        unsteered = row["base"]["perplexity"]["value"]
        for strength, figures in sorted(row["figures"].items(), key=lambda f: float(f[0])):
            cells = [short(figures[name]) if name in figures else "" for name in shown]
            cost = figures["perplexity"]["value"] / unsteered
            lines.append(f"| {row['name']} | {strength} | {cost:.2f} | {' | '.join(cells)} |")
        lines += _paper_rows(task, row["name"], shown)
    theirs = {n.method for n in paper.NUMBERS if n.table in _tables(task)}
    for name in sorted(theirs - {"base"} - {row["name"] for row in rows}):
        lines += _paper_rows(task, name, shown)
    return [*lines, ""]


def _paper_rows(task: str, method: str, shown: Sequence[str]) -> Iterator[str]:
    for table in _tables(task):
        for version in (V1, ACL):
            found = [
                paper.find(table, method, metric, version=version, prompts=PROMPTS[task])
                for metric in shown
            ]
            if all(value is None for value in found):
                continue
            cost = paper.ratio(table, method) if version == V1 else None
            cells = ["" if value is None else f"{value:.3g}" for value in found]
            where = f"*{method}, GPT-2 large, the paper {version}*"
            at = {"positive": "+", "negative": "-", "detox": "+"}[table]
            at = f"{at}5" if method == "lm-steer" else "" if method == "base" else at
            told = "" if cost is None else f"{cost:.2f}"
            yield f"| {where} | {at} | {told} | {' | '.join(cells)} |"


def _tables(task: str) -> tuple[str, ...]:
    return ("positive", "negative") if task == "sentiment" else ("detox",)


def short(estimate: Mapping[str, float]) -> str:
    """Value and interval."""
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"
