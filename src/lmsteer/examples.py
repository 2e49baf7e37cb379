"""Labelled text: `Example`, its digest, and which examples are held out."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .errors import InputError


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


def split_held_out(
    examples: Sequence[Example], share: float, *, salt: str = ""
) -> tuple[list[int], list[int]]:
    """Numbers of the examples to learn from and of those held out.

    Chosen by content, so the split does not depend on the order; equal texts fall on one side.

    Args:
        examples: At least one.
        share: Share of the examples to hold out, in [0, 1). Nothing is held out of fewer than
            20 examples: they cannot be spared, and measure nothing.
        salt: Another salt gives another split.
    """
    if not 0.0 <= share < 1.0:
        raise InputError(f"held_out must be in [0, 1), was: {share}")
    if len(examples) < 20 or share == 0.0:
        return list(range(len(examples))), []
    keys = [
        hashlib.sha256(f"{salt}\x1f{e.prompt}\x1f{e.text}".encode()).hexdigest() for e in examples
    ]
    cut = sorted(set(keys))[max(0, math.ceil(share * len(set(keys))) - 1)]
    kept = [i for i, key in enumerate(keys) if key > cut]
    return kept, [i for i, key in enumerate(keys) if key <= cut]


def summary(examples: Sequence[Example], style: int = 0) -> dict[str, Any]:
    """Counts by sign of the label, and the digest: what a steer's record keeps of its data."""
    labels = [e.labels[style] for e in examples]
    signs = [(label > 0) - (label < 0) for label in labels]
    return {
        "texts": len(examples),
        "positive": signs.count(1),
        "neutral": signs.count(0),
        "negative": signs.count(-1),
        "sha256": digest_of(examples),
    }


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
