"""Labelled text: `Example`, its digest, and counts by label."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError


@dataclass(frozen=True)
class Example:
    """A labelled text.

    Args:
        text: What the steer learns to write more of at strength `label`.
        label: The strength at which it is learned, in [-1, 1]; graded labels are welcome. A tuple
            holds one for each of several styles that are learned together; 0 where a style says
            nothing of the text.
        prompt: Read before `text` but never a target. Joined as it is: begin `text` with a
            space where words should be parted.

    Raises:
        InputError: Empty text, or a label out of range.
    """

    text: str
    label: float | tuple[float, ...]
    prompt: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text.strip():
            raise InputError(f"text must be a non-empty string, was: {self.text!r}")
        for label in self.labels or ("none",):
            if not isinstance(label, int | float) or not -1.0 <= label <= 1.0:
                raise InputError(
                    f"label must be a number between -1 and 1 (inclusive), was: {label!r}; "
                    "grades such as 0..4 can be mapped with scale=(0, 4)"
                )

    @property
    def labels(self) -> tuple[float, ...]:
        """One label for each style; most often there is one style."""
        return self.label if isinstance(self.label, tuple) else (self.label,)

    @property
    def digest(self) -> str:
        """SHA-256 of its content, hex: the same on every machine, whatever the order of files."""
        labels = "\x1f".join(repr(float(label)) for label in self.labels)
        content = f"{self.prompt}\x1f{self.text}\x1f{labels}"
        return hashlib.sha256(content.encode()).hexdigest()


def digest_of(examples: Sequence[Example]) -> str:
    """SHA-256 of a set of examples, hex; the order does not matter."""
    return hashlib.sha256("".join(sorted(e.digest for e in examples)).encode()).hexdigest()


def summary(examples: Sequence[Example], style: int = 0) -> dict[str, Any]:
    """Counts by sign of the label, and the digest: what a steer's record keeps of its data."""
    return {
        "texts": len(examples),
        **counts(examples, style),
        "sha256": digest_of(examples),
    }


def counts(examples: Sequence[Example], style: int = 0) -> dict[str, int]:
    """How many examples there are of each sign of the label."""
    labels = [e.labels[style] for e in examples]
    signs = [(label > 0) - (label < 0) for label in labels]
    named = (("positive", 1), ("neutral", 0), ("negative", -1))
    return {name: signs.count(sign) for name, sign in named}


def sides(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """The examples labelled above 0, and those below; neutral ones are left out.

    Raises:
        InputError: A side is empty.
    """
    positive = [e for e in examples if e.labels[0] > 0]
    negative = [e for e in examples if e.labels[0] < 0]
    if not positive or not negative:
        raise InputError(
            f"texts of both signs are needed, got {len(positive)} above 0 and {len(negative)} below"
        )
    return positive, negative
