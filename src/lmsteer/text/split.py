"""Which texts are held out: content alone decides, and both parts get every label if they can.

Equal texts stay together, even if their labels contradict each other. If one part would lack a
label, texts are exchanged. A label that cannot be in both parts is learned from, with a warning.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import warnings
from collections.abc import Mapping, Sequence

from ..errors import InputError, LmsteerWarning
from .example import Example

FEWEST = 20
"""The number of examples below which nothing is held out: too few to measure anything."""
_MOST_STEPS = 20_000

_Label = tuple[int, str]
"""The number of a style, and what a text says of it."""
_Need = tuple[Sequence[int], bool]
"""Texts of which one has to be held out (True) or learned from (False)."""


class DataWarning(LmsteerWarning):
    """The labelled text allows less than was asked for."""


def split_held_out(
    examples: Sequence[Example], share: float, *, salt: str = ""
) -> tuple[list[int], list[int]]:
    """The numbers of the examples to learn from, and of those that are held out.

    They are chosen by content, so the split does not depend on the order; equal texts go to the
    same part. Both parts have every sign of each style's label wherever that is possible.

    Args:
        examples: The examples, at least one.
        share: The share of the different texts to hold out, in [0, 1). Nothing is held out of fewer
            than 20 examples: they are needed to learn from, and too few to measure anything.
        salt: A word that decides the split together with the texts.

    Raises:
        InputError: The share is out of range.

    Warns:
        DataWarning: A sign of a label has too few different texts to be held out; or this holds for
            so many signs that nothing is held out, since it could not tell them apart.
    """
    if not 0.0 <= share < 1.0:
        raise InputError(f"held_out must be in [0, 1), was: {share}")
    if len(examples) < FEWEST or share == 0.0:
        return list(range(len(examples))), []
    texts = _texts(examples, salt)
    labels = _labels(examples, texts)
    chosen = _chosen(max(1, math.ceil(share * len(texts))), labels, len(texts))
    missing = [label for label, where in labels.items() if not chosen & set(where)]
    if not _tells_apart(labels, missing) or not chosen:
        chosen = set()
    _warn(labels, missing, chosen, len(examples))
    held = sorted(number for place in chosen for number in texts[place])
    return sorted(set(range(len(examples))) - set(held)), held


def _texts(examples: Sequence[Example], salt: str) -> list[list[int]]:
    """The examples of each different text, in an order that only content and salt decide."""
    found: dict[str, list[int]] = {}
    for number, e in enumerate(examples):
        key = hashlib.sha256(f"{salt}\x1f{e.prompt}\x1f{e.text}".encode()).hexdigest()
        found.setdefault(key, []).append(number)
    return [found[key] for key in sorted(found)]


def _labels(examples: Sequence[Example], texts: Sequence[Sequence[int]]) -> dict[_Label, list[int]]:
    """The texts of each label: of each style, the sign; where all have one sign, more or less."""
    styles = range(len(examples[0].labels))
    middle = []
    for style in styles:
        values = [e.labels[style] for e in examples]
        one_sign = min(values) > 0 or max(values) < 0
        middle.append((min(values) + max(values)) / 2 if one_sign else 0.0)
    found: dict[_Label, list[int]] = {}
    for style in styles:
        for side in ("above", "below", "at"):
            where = [
                place
                for place, numbers in enumerate(texts)
                if any(_side(examples[i].labels[style], middle[style]) == side for i in numbers)
            ]
            if where:
                found[style, f"{side} {middle[style]:g}"] = where
    return found


def _side(label: float, middle: float) -> str:
    return "above" if label > middle else "below" if label < middle else "at"


def _chosen(wanted: int, labels: Mapping[_Label, Sequence[int]], count: int) -> set[int]:
    """The texts to hold out: the first, or as near to them as every label on both sides allows."""
    first = set(range(wanted))
    keep: list[_Need] = [(where, False) for where in [range(count), *labels.values()]]
    # Neutral texts last: where not all can be had, those that a style is learned from come first.
    order = sorted(labels, key=lambda label: label[1].startswith("at"))
    hold: list[_Need] = [(labels[label], True) for label in order if len(labels[label]) > 1]
    if all(any((place in first) is held for place in where) for where, held in [*keep, *hold]):
        return first
    needs, sides = keep, _placed(keep) or {}
    for need in hold:
        more = _placed([*needs, need])
        if more is not None:
            needs, sides = [*needs, need], more
    chosen = {place for place, held in sides.items() if held}
    free = (place for place in range(count) if place not in sides)
    return chosen.union(itertools.islice(free, max(0, wanted - len(chosen))))


def _placed(needs: Sequence[_Need]) -> dict[int, bool] | None:
    """A side for a few texts such that every need is met; None where there is none.

    Needs with few texts first. One with more texts than there are needs is always met at the end,
    so no more of its texts are tried. Held-out texts are sought from the front, others from the
    back, so that little is exchanged.
    """
    order = sorted(needs, key=lambda need: len(need[0]))
    steps = 0

    def place(number: int, sides: dict[int, bool]) -> dict[int, bool] | None:
        nonlocal steps
        steps += 1
        if number == len(order) or steps > _MOST_STEPS:
            return sides if number == len(order) else None
        where, held = order[number]
        if any(sides.get(text) is held for text in where):
            return place(number + 1, sides)
        free = [text for text in where if text not in sides]
        for text in (free if held else free[::-1])[: len(order)]:
            found = place(number + 1, {**sides, text: held})
            if found is not None:
                return found
        return None

    return place(0, {})


def _tells_apart(labels: Mapping[_Label, Sequence[int]], missing: Sequence[_Label]) -> bool:
    """Whether of any style two labels are held out; or every style has but one label."""
    styles = {style for style, _ in labels}
    several = [[label for label in labels if label[0] == style] for style in styles]
    several = [those for those in several if len(those) > 1]
    return not several or any(len(set(those) - set(missing)) > 1 for those in several)


def _warn(
    labels: Mapping[_Label, Sequence[int]],
    missing: Sequence[_Label],
    chosen: set[int],
    examples: int,
) -> None:
    styles = len({style for style, _ in labels})
    shown = [*missing] if chosen else [*labels]

    def told(label: _Label) -> str:
        count, style = len(labels[label]), f" in style {label[0] + 1}" if styles > 1 else ""
        return f"{count} with a label {label[1]}{style}"

    listed = ", ".join(told(label) for label in shown)
    if not chosen:
        warnings.warn(
            f"nothing was held out: among {examples} examples there are too few different texts "
            f"({listed}), and at least one of each side has to be learned from. Stopping and "
            "strength of the fit were not judged on unseen text; give more different texts",
            DataWarning,
            stacklevel=4,
        )
    elif missing:
        warnings.warn(
            f"not every label could be held out: of the different texts there are too few "
            f"({listed}), and these have to be learned from. What the fit does to them is not "
            "judged on unseen text; give more of them",
            DataWarning,
            stacklevel=4,
        )
