"""`Calibration`: what each strength of a steer costs, and strengths given in its words.

A strength is a number, or one of the words that a calibrated steer turns into a number: ``"+auto"``
and ``"-auto"`` are the ends of the safe range, ``"80%"`` and ``"-80%"`` are shares of them, and
``"kl:0.5"`` and ``"-kl:0.5"`` are the strengths at which the steered model is that many nats per
token away from its base.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ..errors import InputError, LmsteerWarning

MOST_PERPLEXITY, LEAST_DISTINCT = 1.5, 0.9
"""The bounds of the safe range, as multiples of the unsteered text's figures."""

_FORMS = re.compile(r"(?P<sign>[+-]?)(?:(?P<auto>auto)|kl:(?P<kl>.+)|(?P<share>.+)%)")


class StrengthWarning(LmsteerWarning):
    """A strength past the range in which the text stays fluent."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one strength costs.

    Args:
        strength: The signed strength.
        kl: The divergence KL(steered || base) of the next-token distribution, in nats per token.
        perplexity: The perplexity of sampled text under the base model.
        perplexity_low: The lower end of its 95% interval.
        perplexity_high: The upper end of its 95% interval.
        distinct_2: The share of different pairs of neighbouring words in sampled text.
        distinct_2_low: The lower end of its 95% interval.
        distinct_2_high: The upper end of its 95% interval.
    """

    strength: float
    kl: float
    perplexity: float
    perplexity_low: float
    perplexity_high: float
    distinct_2: float
    distinct_2_low: float
    distinct_2_high: float


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What each strength of one steer costs on its model; see `lmsteer.calibrate`.

    Args:
        rows: The cost of each strength, 0 among them.
        safe: The safe range: the lowest and the highest strength at which text stays fluent.
        positions: The number of positions that the divergence was measured at, if known.
        prompts: The number of prompts that text was sampled from.
        samples: The number of texts per prompt and strength.
        tokens: The length of each text, in tokens.
        top_p: The nucleus that tokens were sampled from.
        seed: The seed of the sampling, if known.

    Raises:
        InputError: No row of strength 0, or a safe range that does not hold 0.
    """

    rows: tuple[Cost, ...]
    safe: tuple[float, float]
    positions: int | None = None
    prompts: int
    samples: int
    tokens: int
    top_p: float
    seed: int | None = None

    def __post_init__(self) -> None:
        if all(row.strength for row in self.rows):
            raise InputError("the rows of a calibration must hold strength 0; no row is of it")
        if not self.safe[0] <= 0 <= self.safe[1]:
            raise InputError(f"the safe range must hold strength 0, was: {self.safe}")

    def strength_of(self, word: str) -> float:
        """The number that a word for a strength stands for.

        Args:
            word: ``"+auto"``, ``"80%"``, ``"kl:0.5"`` or the like.

        Raises:
            InputError: Another form, or a divergence that no calibrated strength reaches.
        """
        found = _parsed(word)
        sign = -1.0 if found["sign"] == "-" else 1.0
        if found["kl"] is not None:
            divergences = {row.strength: row.kl for row in self.rows}
            return sign * strength_at_kl(divergences, _number(found["kl"], word), sign)
        low, high = self.safe
        end = float(low if sign < 0 else high)
        return end if found["auto"] else end * _number(found["share"], word) / 100


@runtime_checkable
class Calibrated(Protocol):
    """A steer, as far as its calibration goes."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def calibration(self) -> Calibration | None:
        """What its strengths cost, if that was measured."""
        ...


def resolve_strength(steer: Calibrated, strength: float | str) -> float:
    """The number that a strength stands for.

    Args:
        steer: The steer whose calibration decides what words mean.
        strength: A number, a number as text, or a word such as ``"80%"``.

    Raises:
        InputError: Neither a number nor such a word; a word for a steer without calibration; a
            divergence that no calibrated strength reaches.
    """
    if not isinstance(strength, str):
        return float(strength)
    try:
        return float(strength)
    except ValueError:
        pass
    _parsed(strength)
    if steer.calibration is None:
        raise InputError(
            f"{strength!r} needs a calibrated steer, and {steer.name!r} is not: give a number, or "
            "calibrate it first with lmsteer.calibrate (lmsteer calibrate)"
        )
    return steer.calibration.strength_of(strength)


def warn_past_range(steer: Calibrated, strength: float) -> None:
    """Warn where the steer is calibrated and the strength lies past its safe range."""
    if steer.calibration is None:
        return
    low, high = steer.calibration.safe
    if not low - 1e-9 <= strength <= high + 1e-9:
        warnings.warn(
            f"strength {strength:g} of {steer.name!r} lies past its safe range "
            f"[{low:.3g}, {high:.3g}]: the text will be less fluent",
            StrengthWarning,
            stacklevel=3,
        )


def strength_at_kl(divergences: Mapping[float, float], wanted: float, sign: float) -> float:
    """The size of the strength whose divergence is `wanted`, between measured strengths.

    The divergence grows about with the square of the strength, so its root is interpolated.

    Args:
        divergences: The divergence at each signed strength, in nats per token; 0 among them.
        wanted: The divergence to reach, in nats per token.
        sign: Which side to look at: 1 for positive strengths, -1 for negative ones.

    Raises:
        InputError: A divergence that no strength of this side reaches.
    """
    side = sorted((abs(s), kl) for s, kl in divergences.items() if s * sign >= 0)
    previous = side[0]
    for strength, kl in side[1:]:
        if kl >= wanted:
            low, high, goal = (math.sqrt(max(0.0, v)) for v in (previous[1], kl, wanted))
            share = (goal - low) / (high - low) if high > low else 1.0
            return float(previous[0] + share * (strength - previous[0]))
        previous = (strength, kl)
    raise InputError(
        f"no calibrated strength is {wanted:g} nats per token from the base; the furthest, "
        f"{sign * previous[0]:g}, is {previous[1]:.3g}. Give a number, or calibrate a wider range"
    )


def safe_range(rows: Sequence[Cost]) -> tuple[float, float]:
    """The strengths, one of each sign, up to which text stays fluent.

    Fluent means that its perplexity is at most 1.5 times, and its distinct-2 at least 0.9 times,
    that of unsteered text. Going outwards from 0, the first strength that breaks a bound ends the
    range; the point between it and its neighbour at which the bound is met is interpolated. Where
    no strength breaks a bound, the range ends with the last strength.
    """
    base = next(row for row in rows if row.strength == 0.0)

    def slack(row: Cost) -> float:
        """From 1 at the base down to 0 where a bound is met: the smaller of the two margins."""
        margin = 1 - (row.perplexity / base.perplexity - 1) / (MOST_PERPLEXITY - 1)
        if not base.distinct_2:  # unsteered text without any pair of words bounds nothing
            return margin
        kept = row.distinct_2 / base.distinct_2
        return min(margin, (kept - LEAST_DISTINCT) / (1 - LEAST_DISTINCT))

    ends = []
    for sign in (-1.0, 1.0):
        side = sorted((r for r in rows if r.strength * sign >= 0), key=lambda r: sign * r.strength)
        end, margin = 0.0, 1.0
        for row in side[1:]:
            following = slack(row)
            if following < 0:
                end += (row.strength - end) * margin / (margin - following)
                break
            end, margin = row.strength, following
        ends.append(end)
    return ends[0], ends[1]


def _parsed(word: str) -> re.Match[str]:
    found = _FORMS.fullmatch(word.strip())
    if found is None:
        raise InputError(
            f"a strength is a number, +auto, -auto, a share of the safe range such as 80% or "
            f"-80%, or a divergence such as kl:0.5 or -kl:0.5; was: {word!r}"
        )
    return found


def _number(text: str, whole: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise InputError(f"expected a number of 0 or more in the strength {whole!r}")
    return number
