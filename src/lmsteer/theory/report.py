"""What a part of the theory hands back: its claim, its numbers, and checks that can fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Row = dict[str, float | int | str | None]


@dataclass(frozen=True)
class Check:
    """A number against its bar.

    Args:
        name: What is measured, in words, with its unit.
        value: What was measured.
        sense: ``"<"``: at most the bar; ``">"``: at least the bar.
        bar: What it is held against.
    """

    name: str
    value: float
    sense: Literal["<", ">"]
    bar: float

    @property
    def passed(self) -> bool:
        """True when the number is on the right side of its bar; never for NaN."""
        return self.value <= self.bar if self.sense == "<" else self.value >= self.bar


@dataclass(frozen=True)
class Part:
    """One part of the theory, run.

    Args:
        name: Its name on the command line.
        claim: What it says, in a sentence or two.
        checks: What must hold.
        tables: Rows of numbers by title: what the figures are drawn from. None stands for what is
            not a number, such as the divergence from something that is no distribution.
    """

    name: str
    claim: str
    checks: Sequence[Check]
    tables: dict[str, list[Row]]

    @property
    def passed(self) -> bool:
        """True when every check holds."""
        return all(check.passed for check in self.checks)
