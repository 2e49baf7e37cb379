"""What a part of the theory hands back: its claim, its numbers, and checks that can fail."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from ...states import Progress

TableRow = dict[str, float | int | str | None]
_Item = TypeVar("_Item")


def column(rows: Sequence[TableRow], name: str) -> np.ndarray:
    """The numbers of a column, float64; NaN for None, which no check passes."""
    return np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=float)


@dataclass(frozen=True)
class Check:
    """A number against its bar.

    Args:
        name: What is measured, in words, with its unit.
        value: What was measured.
        sense: ``"<"`` where the value must be at most the bar, ``">"`` where at least the bar.
        bar: The bar that the value is compared with.
    """

    name: str
    value: float
    sense: Literal["<", ">"]
    bar: float

    @property
    def passed(self) -> bool:
        """True when the number is on the right side of its bar; never for NaN."""
        return bool(self.value <= self.bar if self.sense == "<" else self.value >= self.bar)


@dataclass(frozen=True)
class Part:
    """One part of the theory, run.

    Args:
        name: The name of the part on the command line.
        claim: What the part claims, in a sentence or two.
        checks: The checks that must pass.
        summary: A few rows that people read.
        tables: Rows of numbers by title, from which the figures are drawn. None stands for what is
            not a number, such as the divergence from something that is no distribution.
    """

    name: str
    claim: str
    checks: Sequence[Check]
    summary: list[TableRow]
    tables: dict[str, list[TableRow]]

    @property
    def passed(self) -> bool:
        """True when every check holds."""
        return all(check.passed for check in self.checks)


def counted(items: Sequence[_Item], stage: str, progress: Progress | None) -> Iterator[_Item]:
    """Yield the items one by one, and report each that is done to `progress`."""
    for number, item in enumerate(items):
        yield item
        if progress:
            progress(stage, number + 1, len(items))


def medians(rows: Sequence[TableRow], by: str, columns: Sequence[str]) -> list[TableRow]:
    """The median of each column for each value of `by`, in the order they come in."""
    return [
        {by: value}
        | {
            name: float(np.median(column([row for row in rows if row[by] == value], name)))
            for name in columns
        }
        for value in dict.fromkeys(row[by] for row in rows)
    ]
