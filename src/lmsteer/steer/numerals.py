"""Strengths as text, for tables and messages: signed, and different wherever the numbers differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def strength_texts(strengths: Sequence[float]) -> list[str]:
    """Strengths as signed text, with enough digits that different strengths look different."""
    numbers = [float(strength) + 0.0 for strength in strengths]  # -0 is 0
    texts: list[str] = []
    for digits in range(6, 18):
        texts = [f"{number:+.{digits}g}" for number in numbers]
        if len(set(texts)) == len(set(numbers)):
            break
    return texts


def mix_texts(mixes: Sequence[Mapping[str, float]]) -> list[dict[str, str]]:
    """The strengths of several mixes as text, with the digits chosen for each steer by itself.

    Args:
        mixes: The strength of each steer by the steer's label, one mapping per row of a table.
    """
    found: list[dict[str, str]] = [{} for _ in mixes]
    for name in dict.fromkeys(name for mix in mixes for name in mix):
        rows = [number for number, mix in enumerate(mixes) if name in mix]
        texts = strength_texts([mixes[number][name] for number in rows])
        for number, text in zip(rows, texts, strict=True):
            found[number][name] = text
    return [{name: texts[name] for name in mix} for mix, texts in zip(mixes, found, strict=True)]
