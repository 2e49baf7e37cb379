"""Figures of the results that exist: reading, writing, stability, instructions.

python -m experiments.input_vs_output.figures [RESULTS]

Each ``NAME.json`` of RESULTS (by default this folder's ``results``) becomes ``NAME.png`` there;
what is not measured yet is left out and told.

- reading: shift of the reading against its cost, written and given; a line a steer, dashed
  below strength 0.
- writing: judged style against the perplexity of what is written, times the unsteered text's,
  likewise.
- stability: perplexity of given text, CoLA AUC, agreement and bend against |strength|.
- instructions: what the two contrasts do to stories, at three places, against strength.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.input_vs_output.setting import RESULTS
from experiments.shared.results import read_results
from lmsteer.figures.plotting import COLOURS, subplots

Rows = Mapping[str, Any]
COST = "perplexity, times the unsteered"
# Past this a text is broken, and what is measured of it says little.
DEAREST = 4.0
NAMES = {
    "sentiment": "output",
    "detox": "output",
    "out-reading": "output, told to read",
    "in": "input",
    "in-detox": "input",
    "in-halves": "input, prompts only",
    "in-reading": "input, told to read",
}


def by_strength(rows: Rows) -> list[tuple[float, Any]]:
    """Rows whose keys are strengths, from the lowest."""
    return sorted((float(key), row) for key, row in rows.items() if key[0] in "+-")


def coloured(rows: Rows) -> Iterator[tuple[str, tuple[str, Any]]]:
    """Each with its colour; those past the last begin again."""
    return zip(itertools.cycle(COLOURS), rows.items(), strict=False)


def line(axis: Any, x: Sequence[float], y: Sequence[float], name: str, colour: str) -> None:
    """One steer."""
    axis.plot(x, y, "o-", color=colour, markersize=3, linewidth=1.2, label=name)


def against_cost(axis: Any, steers: Rows, effect: str, cost: Any) -> None:
    """Effect by cost, a line a steer, strengths below 0 dashed."""
    for colour, (name, found) in coloured(steers):
        rows = by_strength(found["strengths"])
        for sign, style in ((1, "o-"), (-1, "o--")):
            side = [(row[cost], row[effect]) for s, row in rows if s * sign >= 0]
            shown = [point for point in side if point[0] <= DEAREST]
            axis.plot(
                *zip(*shown, strict=True),
                style,
                color=colour,
                markersize=3,
                linewidth=1.2,
                label=NAMES.get(name, name) if sign > 0 else None,
            )
    axis.set_xscale("log")
    axis.set_xticks([1, 1.5, 2, 3, 4], ["1", "1.5", "2", "3", "4"])
    axis.minorticks_off()
    axis.grid(color="0.92")
    axis.set_xlabel(COST)


def reading(rows: Rows) -> Any:
    """Both frames by both costs."""
    figure, axes = subplots(2, 2, figsize=(8.4, 6.4))
    for row, (frame, title) in zip(
        axes, (("review", "after a review"), ("toxicity", "after a quotation")), strict=True
    ):
        for axis, cost in zip(row, ("written", "given"), strict=True):
            against_cost(axis, rows[frame], "shift", cost)
            axis.set_title(f"{title}; perplexity of {cost} text", fontsize=9)
            axis.set_ylabel("shift of the reading, s.d.")
        row[0].legend(fontsize=7)
    return figure


def writing(rows: Rows) -> Any:
    """One panel a judge."""
    judges = list(dict.fromkeys(found["judge"] for found in rows.values()))
    figure, axes = subplots(1, len(judges), figsize=(4.2 * len(judges), 3.4), squeeze=False)
    for axis, judge in zip(axes[0], judges, strict=True):
        steers = {name: found for name, found in rows.items() if found["judge"] == judge}
        against_cost(axis, steers, "style", "ratio")
        axis.set_ylabel({"sentiment": "judged positive", "toxicity": "judged toxic"}[judge])
        axis.legend(fontsize=7)
    return figure


def stability(rows: Rows) -> Any:
    """Four figures, the mean of both signs."""
    figure, axes = subplots(2, 2, figsize=(8.4, 6.0), sharex=True)
    titles = {
        "perplexity": "perplexity of given text, times the unsteered",
        "cola": "CoLA, AUC",
        "agreement": "agreement, share right",
        "bend": "bend, share of the change",
    }
    for axis, (key, title) in zip(axes.flat, titles.items(), strict=True):
        for colour, (name, found) in coloured(rows["steers"]):
            values = by_strength(found)
            sizes = sorted({abs(s) for s, _ in values})
            if key == "bend":
                sizes = sizes[1:]  # at strength 0 there is no change to be a share of
            means = []
            for size in sizes:
                both = [row[key] for s, row in values if abs(s) == size]
                means.append(sum(both) / len(both))
            line(axis, sizes, means, NAMES.get(name, name), colour)
        if key == "perplexity":
            axis.set_yscale("log", base=2)
            axis.yaxis.set_major_formatter("{x:g}")
        axis.set_title(title, fontsize=9)
        axis.grid(color="0.92")
    axes[0, 0].legend(fontsize=7)
    for axis in axes[1]:
        axis.set_xlabel("|strength|")
    return figure


def instructions(rows: Rows) -> Any:
    """What each contrast is about, and what it costs."""
    figure, axes = subplots(2, 2, figsize=(8.4, 6.0), sharex=True)
    shown = (("obey", "both", "animal and name told"), ("dialogue", "dialogue", "direct speech"))
    for column, (contrast, key, title) in zip(axes.T, shown, strict=True):
        places = {n.split(": ")[1]: r for n, r in rows.items() if n.startswith(f"{contrast}:")}
        for colour, (place, found) in coloured(places):
            strengths, values = zip(*by_strength(found), strict=True)
            line(column[0], strengths, [v[key][0] for v in values], place, colour)
            column[0].fill_between(
                strengths,
                [v[key][1] for v in values],
                [v[key][2] for v in values],
                color=colour,
                alpha=0.12,
                linewidth=0,
            )
            line(column[1], strengths, [v["perplexity"] for v in values], place, colour)
        column[0].set_title(f"{contrast}: share of stories, {title}", fontsize=9)
        column[1].set_title(f"{contrast}: perplexity of the stories", fontsize=9)
        column[1].set_xlabel("strength")
        for axis in column:
            axis.grid(color="0.92")
    axes[0, 0].legend(fontsize=7)
    return figure


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("results", type=Path, nargs="?", default=RESULTS)
    folder = parser.parse_args().results
    for draw in (reading, writing, stability, instructions):
        path = folder / f"{draw.__name__}.json"
        if not path.exists():
            print(f"{path.name}: not measured yet")
            continue
        figure = draw(read_results(path)["rows"])
        figure.tight_layout()
        figure.savefig(path.with_suffix(".png"), dpi=130)
        print(path.with_suffix(".png").name)


if __name__ == "__main__":
    main()
