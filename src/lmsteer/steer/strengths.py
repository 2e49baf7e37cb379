"""Strengths as people write them: numbers, or words that a steer's calibration turns into numbers.

``"+auto"`` and ``"-auto"`` are the ends of the safe range, ``"80%"`` and ``"-80%"`` shares of
them, ``"kl:0.5"`` and ``"-kl:0.5"`` the strength at which the steered model is so many nats a
token away from its base.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InputError, LmsteerWarning
from .steer import Steer

_FORMS = re.compile(r"(?P<sign>[+-]?)(?:(?P<auto>auto)|kl:(?P<kl>.+)|(?P<share>.+)%)")


class StrengthWarning(LmsteerWarning):
    """A strength past the range in which the text stays fluent."""


def resolve_strength(steer: Steer, strength: float | str) -> float:
    """The number that a strength stands for.

    Args:
        steer: Whose calibration decides about words.
        strength: A number, a number as text, or one of the forms above.

    Raises:
        InputError: Neither a number nor one of the forms; a word for a steer without calibration;
            a divergence that no calibrated strength reaches.
    """
    if not isinstance(strength, str):
        return float(strength)
    try:
        return float(strength)
    except ValueError:
        pass
    found = _FORMS.fullmatch(strength.strip())
    if found is None:
        raise InputError(
            f"a strength is a number, +auto, -auto, a share of the safe range such as 80% or "
            f"-80%, or a divergence such as kl:0.5 or -kl:0.5; was: {strength!r}"
        )
    table = steer.record.get("calibration")
    if table is None:
        raise InputError(
            f"{strength!r} needs a calibrated steer, and {steer.name!r} is not: give a number, or "
            "calibrate it first with lmsteer.calibrate (lmsteer calibrate)"
        )
    sign = -1.0 if found["sign"] == "-" else 1.0
    if found["kl"] is not None:
        return sign * strength_at_kl(table["rows"], _number(found["kl"], strength), sign)
    low, high = table["safe"]
    end = float(low if sign < 0 else high)
    return end if found["auto"] else end * _number(found["share"], strength) / 100


def warn_past_range(steer: Steer, strength: float) -> None:
    """Warn where the steer is calibrated and the strength lies past its safe range."""
    table = steer.record.get("calibration")
    if table is None:
        return
    low, high = table["safe"]
    if not low - 1e-9 <= strength <= high + 1e-9:
        warnings.warn(
            f"strength {strength:g} of {steer.name!r} lies past its safe range "
            f"[{low:.3g}, {high:.3g}]: the text will be less fluent",
            StrengthWarning,
            stacklevel=3,
        )


def strength_at_kl(rows: Sequence[Mapping[str, Any]], wanted: float, sign: float) -> float:
    """The size of strength, on one side, whose divergence is `wanted`, between calibrated points.

    The divergence grows about with the square of the strength, so its root is interpolated.
    """
    side = sorted((abs(r["strength"]), r["kl"]) for r in rows if r["strength"] * sign >= 0)
    previous = side[0]
    for strength, kl in side[1:]:
        if kl >= wanted:
            low, high, goal = (math.sqrt(max(0.0, v)) for v in (previous[1], kl, wanted))
            share = (goal - low) / (high - low) if high > low else 1.0
            return float(previous[0] + share * (strength - previous[0]))
        previous = (strength, kl)
    raise InputError(
        f"no calibrated strength is {wanted:g} nats a token from the base; the furthest, "
        f"{sign * previous[0]:g}, is {previous[1]:.3g}. Give a number, or calibrate a wider range"
    )


def strength_texts(strengths: Sequence[float]) -> list[str]:
    """Strengths as text, signed, with as many digits as it takes for different ones to differ."""
    numbers = [float(strength) + 0.0 for strength in strengths]  # -0 is 0
    texts: list[str] = []
    for digits in range(6, 18):
        texts = [f"{number:+.{digits}g}" for number in numbers]
        if len(set(texts)) == len(set(numbers)):
            break
    return texts


def mix_texts(mixes: Sequence[Mapping[str, float]]) -> list[dict[str, str]]:
    """The strengths of several mixes as `strength_texts` has them, each steer's for itself.

    Args:
        mixes: Strengths of steers by their labels, a mapping for each row of a table.
    """
    found: list[dict[str, str]] = [{} for _ in mixes]
    for name in dict.fromkeys(name for mix in mixes for name in mix):
        rows = [number for number, mix in enumerate(mixes) if name in mix]
        texts = strength_texts([mixes[number][name] for number in rows])
        for number, text in zip(rows, texts, strict=True):
            found[number][name] = text
    return [{name: texts[name] for name in mix} for mix, texts in zip(mixes, found, strict=True)]


def _number(text: str, whole: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise InputError(f"expected a number of 0 or more in the strength {whole!r}")
    return number
