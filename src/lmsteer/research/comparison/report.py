"""A comparison as Markdown, JSON and a figure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from ...figures import COLOURS, check_matplotlib, subplots
from ...metrics import Estimate
from ...steer import told_apart
from ...storage import write_file
from ...text import code, figure_text, markdown
from .curves import Point, best_within
from .rows import MethodRow

RATIOS = (1.25, 1.5, 2.0)
MARKERS = "os^Dv<>P"


class Goal(NamedTuple):
    """What is wanted of a method.

    Args:
        sign: The sign of the strengths that lead to the goal: 1 or -1.
        style: The name of the figure that measures the style, in [0, 1].
        less: Whether less of the style is wanted.
    """

    sign: int
    style: str
    less: bool

    @property
    def title(self) -> str:
        """The name of what is drawn and listed: more of it is better."""
        return f"1 - {self.style}" if self.less else self.style


def points(row: MethodRow, goal: Goal) -> list[Point]:
    """The points of a curve: the base model, then each strength of the goal's sign, rising."""
    base = row.base["perplexity"].value

    def point(figures: Mapping[str, Estimate]) -> Point:
        found = figures[goal.style]
        if goal.less:
            found = Estimate(1 - found.value, found.count, 1 - found.high, 1 - found.low)
        return Point(found, figures["perplexity"].value / base)

    strengths = sorted(
        (s for s in row.figures if float(s) * goal.sign > 0), key=lambda s: abs(float(s))
    )
    return [point(row.base), *(point(row.figures[s]) for s in strengths)]


def write_report(
    folder: Path,
    title: str,
    rows: Sequence[MethodRow],
    goals: Mapping[str, Goal],
    facts: Mapping[str, Any],
) -> None:
    """Write ``comparison.md`` and ``.json``, and ``.png`` where matplotlib is installed."""
    folder.mkdir(parents=True, exist_ok=True)
    names = told_apart([row.name for row in rows])
    reached = {
        name: [[best_within(points(row, goal), r) for r in RATIOS] for row in rows]
        for name, goal in goals.items()
    }
    plain = {
        "facts": dict(facts),
        "rows": [asdict(row) for row in rows],
        "reached": {
            goal: {
                name: {f"{r:g}": asdict(e) for r, e in zip(RATIOS, found, strict=True)}
                for name, found in zip(names, methods, strict=True)
            }
            for goal, methods in reached.items()
        },
    }
    text = json.dumps(plain, indent=1)
    write_file(folder / "comparison.json", text + "\n")
    figure = draw_curves(folder / "comparison.png", rows, names, goals)
    lines = [f"# {markdown(title)}", ""]
    for goal, wanted in goals.items():
        lines += [
            f"## {markdown(goal)}: best {markdown(wanted.title)} at a perplexity ratio of at most",
            "",
            f"| method | {' | '.join(f'{r:g}' for r in RATIOS)} | trunk | parameters | fit, s "
            "| fit, MiB | time per token |",
            "|---|---|---|---|---|---:|---:|---:|---:|",
        ]
        base = points(rows[0], wanted)[0].style.value
        best = [max(e[i].value for e in reached[goal]) for i in range(len(RATIOS))]
        for row, name, found in zip(rows, names, reached[goal], strict=True):
            cells = [
                f"**{_short(e)}**" if e.value == top else _short(e)
                for e, top in zip(found, best, strict=True)
            ]
            memory = "" if row.mebibytes is None else f"{row.mebibytes:,.0f}"
            lines.append(
                f"| {markdown(name)} | {' | '.join(cells)} "
                f"| {'frozen' if row.frozen else 'changed'} "
                f"| {row.parameters:,} | {row.seconds:,.0f} | {memory} | ×{row.decode:.2f} |"
            )
        lines += ["", f"Unsteered: {base:.3f}. Bold: the highest; 95% intervals over prompts.", ""]
    if figure:
        lines += ["![style against perplexity](comparison.png)", ""]
    lines += _everything(rows, names)
    lines += ["## Methods", ""]
    lines += [
        f"- {code(name)}: {markdown(row.source)} ({row.prompts} prompts)"
        for row, name in zip(rows, names, strict=True)
    ]
    lines += ["", "## Settings", ""]
    lines += [f"- {markdown(key)}: {markdown(str(value))}" for key, value in facts.items()]
    write_file(folder / "comparison.md", "\n".join(lines) + "\n")


def _short(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _everything(rows: Sequence[MethodRow], names: Sequence[str]) -> list[str]:
    """Every figure of every strength."""
    shown = list(dict.fromkeys(k for r in rows for f in [r.base, *r.figures.values()] for k in f))
    lines = [
        "## At each strength",
        "",
        f"| method | strength | {' | '.join(map(markdown, shown))} |",
        "|---" * (len(shown) + 2) + "|",
    ]
    for row, name in zip(rows, names, strict=True):
        for strength, figures in sorted(row.figures.items(), key=lambda item: float(item[0])):
            cells = [str(figures[key]) if key in figures else "" for key in shown]
            lines.append(f"| {markdown(name)} | {strength} | {' | '.join(cells)} |")
    base = rows[0].base
    lines.append(f"| base | 0 | {' | '.join(str(base.get(key, '')) for key in shown)} |")
    return [*lines, ""]


def draw_curves(
    path: Path, rows: Sequence[MethodRow], names: Sequence[str], goals: Mapping[str, Goal]
) -> bool:
    """Draw style against perplexity: one panel per goal, one line per method.

    Returns:
        Whether the figure was drawn; False where matplotlib is not installed.
    """
    try:
        check_matplotlib()
    except ImportError:
        return False
    figure, axes = subplots(1, len(goals), figsize=(6.0 * len(goals), 4.8), squeeze=False)
    for axis, (name, goal) in zip(axes[0], goals.items(), strict=True):
        for number, (row, label) in enumerate(zip(rows, names, strict=True)):
            found = points(row, goal)
            axis.plot(
                [p.ratio for p in found],
                [p.style.value for p in found],
                color=COLOURS[number % len(COLOURS)],
                marker=MARKERS[number // len(COLOURS) % len(MARKERS)],
                linestyle="-" if row.frozen else "--",
                linewidth=2.4 if row.emphasised else 1.2,
                markersize=4,
                label=figure_text(label),
            )
        axis.set_xlim(0.8, 3.0)
        axis.set_xlabel("perplexity, relative to the unsteered model")
        axis.set_ylabel(figure_text(goal.title))
        axis.set_title(figure_text(name), fontsize=11)
    axes[0][-1].legend(fontsize=7, ncols=2)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    return True
