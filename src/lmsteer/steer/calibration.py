"""What each strength of a steer costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass

MOST_PERPLEXITY, LEAST_DISTINCT = 1.5, 0.9


def safe_range(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """The strengths, one of each sign, up to which both bounds hold.

    The first strength outwards that breaks a bound ends the range; where between it and its
    neighbour the bound is met is interpolated. A range that no strength breaks ends with the
    last one measured.
    """
    base = next(row for row in rows if row["strength"] == 0.0)

    def slack(row: Mapping[str, Any]) -> float:
        """From 1 at the base down to 0 where a bound is met: the smaller of the two margins."""
        margin: float = 1 - (row["perplexity"] / base["perplexity"] - 1) / (MOST_PERPLEXITY - 1)
        if not base["distinct_2"]:  # unsteered text without any pair of words bounds nothing
            return margin
        kept: float = row["distinct_2"] / base["distinct_2"]
        return min(margin, (kept - LEAST_DISTINCT) / (1 - LEAST_DISTINCT))

    ends = []
    for sign in (-1.0, 1.0):
        side = sorted(
            (r for r in rows if r["strength"] * sign >= 0), key=lambda r: sign * r["strength"]
        )
        end, margin = 0.0, 1.0
        for row in side[1:]:
            following = slack(row)
            if following < 0:
                end += (row["strength"] - end) * margin / (margin - following)
                break
            end, margin = row["strength"], following
        ends.append(end)
    return ends[0], ends[1]
