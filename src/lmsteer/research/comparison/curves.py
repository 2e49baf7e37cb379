"""What a method reaches at a cost: its style against perplexity, read off between strengths."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from ...metrics import Estimate


@dataclass(frozen=True)
class Point:
    """One strength of one method: the style wanted, with its interval, and what it costs.

    Args:
        style: Higher is better, in [0, 1].
        ratio: Perplexity relative to the base model's.
    """

    style: Estimate
    ratio: float


def best_within(points: Sequence[Point], ratio: float) -> Estimate:
    """The best style at a perplexity ratio of at most `ratio`.

    Args:
        points: By magnitude of the strength, the base model's first; between neighbours style and
            the log of the perplexity are taken to go in a straight line.
        ratio: The most that perplexity may rise, as a factor.

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
