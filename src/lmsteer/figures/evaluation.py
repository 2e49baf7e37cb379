"""Figures of measured rows, by matplotlib (extra `plot`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike

from ..steer import strength_texts
from ..text import figure_text
from .plotting import COLOURS, Interval, subplots


def strength_figure(
    path: str | PathLike[str],
    strengths: Sequence[float],
    rows: Sequence[Mapping[str, Interval]],
    shown: Sequence[str],
    title: str,
) -> None:
    """Draw each metric of `shown` against strength, in a panel of its own, with its interval."""
    figure, axes = subplots(1, len(shown), figsize=(3.6 * len(shown), 3.2), squeeze=False)
    for axis, name, colour in zip(axes[0], shown, COLOURS * len(shown), strict=False):
        values = [row[name].value for row in rows]
        low, high = [row[name].low for row in rows], [row[name].high for row in rows]
        axis.plot(strengths, values, "o-", color=colour, markersize=4)
        axis.fill_between(strengths, low, high, color=colour, alpha=0.2, linewidth=0)
        axis.axvline(0, color="0.7", linewidth=0.8, zorder=0)
        axis.set_xlabel("strength")
        axis.set_title(figure_text(name), fontsize=10)
    figure.suptitle(figure_text(title), fontsize=11)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def tradeoff_figure(
    path: str | PathLike[str],
    groups: Mapping[str, Sequence[tuple[str, Mapping[str, Interval]]]],
    style: str,
    title: str,
) -> None:
    """Draw style against perplexity: a line per group, a labelled point per mix of strengths."""
    figure, axis = subplots(figsize=(5.6, 4.2))
    for (group, points), colour in zip(groups.items(), COLOURS * len(groups), strict=False):
        x = [row["perplexity"].value for _, row in points]
        y = [row[style].value for _, row in points]
        spread = [
            [max(0.0, row[style].value - row[style].low) for _, row in points],
            [max(0.0, row[style].high - row[style].value) for _, row in points],
        ]
        line = {"fmt": "o-", "color": colour, "markersize": 4}
        axis.errorbar(x, y, yerr=spread, label=figure_text(group), **line)
        beside = {"fontsize": 7, "xytext": (4, 4), "textcoords": "offset points"}
        for (label, _), left, up in zip(points, x, y, strict=True):
            axis.annotate(figure_text(label), (left, up), **beside)
    axis.margins(0.15, 0.08)  # room for the labels
    axis.set_xlabel("perplexity under the unsteered model")
    axis.set_ylabel(figure_text(style))
    axis.set_title(figure_text(title), fontsize=11)
    if len(groups) > 1:
        axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def grid_figure(
    path: str | PathLike[str],
    names: tuple[str, str],
    strengths: tuple[Sequence[float], Sequence[float]],
    rows: Sequence[Sequence[Mapping[str, Interval]]],
    shown: Sequence[str],
) -> None:
    """Draw each metric of `shown` in a panel whose axes are the strengths of two steers.

    Args:
        path: The file to write the figure to.
        names: The names of the steer whose strength grows to the right, and of the one whose
            strength grows upwards.
        strengths: The strengths of the first steer, and those of the second.
        rows: One line per strength of the second steer, with the metrics at each strength of the
            first.
        shown: The names of the metrics.
    """
    figure, axes = subplots(1, len(shown), figsize=(4.0 * len(shown), 3.6), squeeze=False)
    for axis, name in zip(axes[0], shown, strict=True):
        values = [[figures[name].value for figures in line] for line in rows]
        image = axis.imshow(values, origin="lower", cmap="viridis", aspect="auto")
        middle = (max(map(max, values)) + min(map(min, values))) / 2
        for y, line in enumerate(values):
            for x, value in enumerate(line):
                colour = "white" if value < middle else "black"
                axis.text(x, y, f"{value:.3g}", ha="center", va="center", fontsize=7, color=colour)
        axis.set_xticks(range(len(strengths[0])), strength_texts(strengths[0]))
        axis.set_yticks(range(len(strengths[1])), strength_texts(strengths[1]))
        axis.set_xlabel(figure_text(names[0]))
        axis.set_ylabel(figure_text(names[1]))
        axis.set_title(figure_text(name), fontsize=10)
        figure.colorbar(image, ax=axis, fraction=0.046)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
