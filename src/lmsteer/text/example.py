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
        text: The text; at strength `label` the steer learns to write more text like it.
        label: The strength at which the text is learned, in [-1, 1]; any number between is allowed.
            A tuple has one label per style, for several styles that are learned together; 0 means
            that the style does not apply to this text.
        prompt: What is read before `text` and is never a target. The two are joined as they are:
            begin `text` with a space where there should be one.

    Raises:
        InputError: The text is empty, or a label is out of range.
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
        """One label per style; most often there is one style."""
        return self.label if isinstance(self.label, tuple) else (self.label,)

    @property
    def digest(self) -> str:
        """The SHA-256 of its content, in hex: the same on every machine."""
        labels = "\x1f".join(repr(float(label)) for label in self.labels)
        content = f"{self.prompt}\x1f{self.text}\x1f{labels}"
        return hashlib.sha256(content.encode()).hexdigest()


def digest_of(examples: Sequence[Example]) -> str:
    """The SHA-256 of a set of examples, in hex; their order does not matter."""
    return hashlib.sha256("".join(sorted(e.digest for e in examples)).encode()).hexdigest()


def summary(examples: Sequence[Example], style: int = 0) -> dict[str, Any]:
    """The counts by sign of the label, and the digest, as a steer's record keeps them."""
    return {
        "texts": len(examples),
        **counts(examples, style),
        "sha256": digest_of(examples),
    }


def counts(examples: Sequence[Example], style: int = 0) -> dict[str, int]:
    """The number of examples of each sign of the label."""
    labels = [e.labels[style] for e in examples]
    signs = [(label > 0) - (label < 0) for label in labels]
    named = (("positive", 1), ("neutral", 0), ("negative", -1))
    return {name: signs.count(sign) for name, sign in named}


def sides(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """The examples with labels above 0, and those below; neutral ones are left out.

    Raises:
        InputError: There are no examples above 0, or none below.
    """
    positive = [e for e in examples if e.labels[0] > 0]
    negative = [e for e in examples if e.labels[0] < 0]
    if not positive or not negative:
        raise InputError(
            f"texts of both signs are needed, got {len(positive)} above 0 and {len(negative)} below"
        )
    return positive, negative
