"""What a method reaches at a given cost in perplexity, interpolated between strengths."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from ...metrics import Estimate


@dataclass(frozen=True)
class Point:
    """One strength of one method: how much of the style it reaches, and what that costs.

    Args:
        style: How much of the wanted style there is, in [0, 1].
        ratio: The perplexity, divided by the base model's.
    """

    style: Estimate
    ratio: float


def best_within(points: Sequence[Point], ratio: float) -> Estimate:
    """The best style at a perplexity ratio of at most `ratio`.

    Args:
        points: The points in the order of the strength's magnitude, the base model's first.
            Between neighbours, style and the log of the perplexity are interpolated linearly.
        ratio: The largest factor by which perplexity may rise.

    Returns:
        The best point, or crossing of `ratio`; its interval is the points' own, interpolated.
    """
    found = [point.style for point in points if point.ratio <= ratio]
    for one, other in itertools.pairwise(points):
        if min(one.ratio, other.ratio) <= ratio < max(one.ratio, other.ratio):
            share = math.log(ratio / one.ratio) / math.log(other.ratio / one.ratio)
            found.append(_between(one.style, other.style, share))
    return max(found, key=lambda estimate: estimate.value)


def _between(one: Estimate, other: Estimate, share: float) -> Estimate:
    value, low, high = (
        (1 - share) * getattr(one, name) + share * getattr(other, name)
        for name in ("value", "low", "high")
    )
    return Estimate(value, min(one.count, other.count), low, high)
