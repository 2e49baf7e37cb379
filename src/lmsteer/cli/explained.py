"""What `lmsteer explain` prints: coloured texts, tables of words, directions, overlaps."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from ..metrics import masked
from ..steer import strength_texts
from ..text import visible
from .display import escape, out

if TYPE_CHECKING:
    from ..interpretation import Direction, Evidence, Shift, StyleValue


def show_texts(read: Sequence[Evidence], values: Sequence[StyleValue]) -> None:
    """Each text in colours, its spans, and its style value."""
    for found, value in zip(read, values, strict=True):
        out.print(_coloured(found), soft_wrap=True)
        spans = ", ".join(
            f"{escape(repr(found.text[s.start : s.end]))} {s.ratio:+.2f}" for s in found.spans
        )
        out.print(f"  spans: {spans or 'none'}", soft_wrap=True)
        out.print(
            f"  style value {value.value:+.2f} [{value.low:+.2f}, {value.high:+.2f}], "
            f"probability of the style {value.probability:.3f}, {value.tokens} tokens"
        )


def _coloured(found: Evidence) -> Text:
    """Blue speaks for the style, orange against it; the best spans are underlined."""
    shown = [visible(letter, keep="\n") for letter in found.text]
    place = [0, *itertools.accumulate(map(len, shown))]  # a control character takes more room
    text = Text("".join(shown))
    for token in found.tokens:
        if abs(token.ratio) >= 0.25:
            strong = "bold " if abs(token.ratio) >= 1.0 else ""
            colour = "blue" if token.ratio > 0 else "dark_orange"
            text.stylize(f"{strong}{colour}", place[token.start], place[token.end])
    for span in found.spans:
        text.stylize("underline", place[span.start], place[span.end])
    return text


def show_words(name: str, strength: float, gains: Sequence[Shift], losses: Sequence[Shift]) -> None:
    """The words whose probability rises and falls most; offensive ones are masked."""
    at = strength_texts([strength])[0]
    table = Table("gain", "nats", "lose", "nats", title=f"{escape(name)} at {at}")
    for i in range(max(len(gains), len(losses))):
        cells = []
        for side in (gains, losses):
            row = side[i] if i < len(side) else None
            cells += [escape(masked(row.word)), f"{row.change:+.2f}"] if row else ["", ""]
        table.add_row(*cells)
    out.print(table)


def show_directions(parts: Sequence[Direction]) -> None:
    """Which words each direction raises, and which switch it on; offensive ones are masked."""
    for number, part in enumerate(parts, start=1):
        out.print(f"direction {number}, {part.share:.0%} of the map")
        for title, ends in (("raises when on", part.writes), ("switched on by", part.reads)):
            for sign, end in zip("+-", ends, strict=True):
                listed = ", ".join(escape(masked(word)) for word, _ in end)
                out.print(f"  {title} {sign}: {listed}", soft_wrap=True)


def show_overlaps(names: Sequence[str], values: Any) -> None:
    """How far the leading directions of the steers are the same."""
    table = Table("overlap", *map(escape, names), title="leading directions: 1 the same, 0 none")
    for name, row in zip(names, values, strict=True):
        table.add_row(escape(name), *(f"{value:.2f}" for value in row))
    out.print(table)
