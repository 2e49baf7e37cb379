"""Figures of what a steer has learned (extra `plot`)."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Protocol, runtime_checkable

import numpy as np

from ..text import figure_text
from .plotting import COLOURS, subplots


@runtime_checkable
class Change(Protocol):
    """A word and how much a steer changes its log-probability, in nats."""

    @property
    def word(self) -> str:
        """The word as text."""
        ...

    @property
    def change(self) -> float:
        """The change of its log-probability, in nats."""
        ...


@runtime_checkable
class Curve(Protocol):
    """The log-likelihood of a text at each of several strengths, and the best strength."""

    @property
    def value(self) -> float:
        """The strength at which the text is most likely."""
        ...

    @property
    def strengths(self) -> Sequence[float]:
        """The strengths that were tried."""
        ...

    @property
    def curve(self) -> Sequence[float]:
        """The log-likelihood at each of them, in nats."""
        ...


def words_figure(
    path: str | PathLike[str], gains: Sequence[Change], losses: Sequence[Change], title: str
) -> None:
    """Draw the words that gain and lose most, as bars."""
    rows = [*losses, *reversed(gains)]
    figure, axis = subplots(figsize=(4.6, 0.21 * max(4, len(rows)) + 0.9))
    colours = [COLOURS[0] if row.change > 0 else COLOURS[1] for row in rows]
    axis.barh(range(len(rows)), [row.change for row in rows], color=colours)
    axis.set_yticks(range(len(rows)), [figure_text(row.word) for row in rows], fontsize=7)
    axis.axvline(0, color="0.3", linewidth=0.8)
    axis.set_xlabel("change of log-probability, nats")
    axis.set_title(figure_text(title), fontsize=10)
    axis.margins(y=0.01)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def value_figure(
    path: str | PathLike[str], values: Sequence[Curve], names: Sequence[str], title: str
) -> None:
    """Draw the likelihood of each text against strength, with its maximum marked."""
    figure, axis = subplots(figsize=(5.2, 3.6))
    for value, name, colour in zip(values, names, COLOURS * len(values), strict=False):
        label = f"{value.value:+.2f}  {figure_text(name)}"
        axis.plot(value.strengths, value.curve, color=colour, label=label)
        axis.axvline(value.value, color=colour, linewidth=0.8, linestyle=":")
    axis.set_xlabel("strength")
    axis.set_ylabel("log-likelihood less its best, nats")
    axis.set_title(figure_text(title), fontsize=11)
    axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def overlaps_figure(path: str | PathLike[str], found: np.ndarray, names: Sequence[str]) -> None:
    """Draw the overlaps of the steers' leading subspaces as a heat map."""
    names = [figure_text(name) for name in names]
    side = 1.6 + 0.6 * len(names)
    figure, axis = subplots(figsize=(side + 0.6, side))
    image = axis.imshow(found, vmin=0, vmax=1, cmap="viridis")
    for i, row in enumerate(found):
        for j, value in enumerate(row):
            colour = "white" if value < 0.5 else "black"
            axis.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
    axis.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=8)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set_title("overlap of what they write to", fontsize=10)
    figure.colorbar(image, ax=axis, fraction=0.046)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
