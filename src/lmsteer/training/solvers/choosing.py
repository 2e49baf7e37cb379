"""Which step each style takes: ridge and rank by what separates the labels of held-out texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ...model import Head
from ...states import Expectation, States, Statistics
from ..curvature import Curvature, Directions
from ..separation import Separation
from ..step import Values, downhill

# The prior's weight in tokens: ridge = PRIOR_TOKENS / tokens, in units of the mean curvature.
# Where texts are held out, they choose among multiples of it.
PRIOR_TOKENS, MULTIPLES = 1e5, (0.1, 0.3, 1.0, 3.0)
# The fewest directions are kept that separate at least this share of what the best rank does.
RANKS, ENOUGH = (4, 8, 16, 32, 64, 128, 256), 0.95


@dataclass(frozen=True, eq=False)
class Chosen:
    """The step of each style, in directions of which the first few are kept."""

    directions: list[Directions]
    ranks: list[int]
    course: dict[str, Any]

    def factors(self) -> list[tuple[Tensor, Tensor]]:
        """P and Q of each style; their length is that of the step."""
        pairs = zip(self.directions, self.ranks, strict=True)
        found = (directions.factors(rank) for directions, rank in pairs)
        return [(P.float(), Q.float()) for P, Q in found]


def choose(
    sums: Statistics,
    head: Head,
    held_out: States | None,
    ridge: float | None,
    rank: int | None,
) -> Chosen:
    """One damped Newton step from the base model for each style.

    Args:
        sums: The tokens to learn from.
        head: The head that judges.
        held_out: The tokens that choose; None: the ridge is the prior's, and all directions are
            kept.
        ridge: The ridge, or None to choose it.
        rank: The number of directions to keep, or None to choose it.
    """
    prior = PRIOR_TOKENS / sums.tokens
    ridges = [prior * multiple for multiple in MULTIPLES] if held_out is not None else [prior]
    tried = steps_of(sums, head, held_out, ridges if ridge is None else [ridge], rank)
    best = max(tried, key=lambda one: one.gained)
    ranks = [fewest(table) for table in best.tables]
    course = {
        "ridge": best.ridge,
        "ridges_tried": [one.ridge for one in tried],
        "rank_separation": [{str(r): table[r] for r in table} for table in best.tables],
    }
    return Chosen(best.directions, ranks, course)


def cross_validated(parts: Sequence[Statistics], head: Head, rank: int) -> float:
    """The ridge for one style, by what the others' steps separate on each part in turn.

    Args:
        parts: At least two statistics of different texts.
        head: The head that judges.
        rank: The number of directions that are kept.
    """
    total = sum(parts[1:], parts[0])
    ridges = [PRIOR_TOKENS / total.tokens * multiple for multiple in MULTIPLES]
    each = [steps_of(total - part, head, part.sample, ridges, rank) for part in parts]
    gained = [sum(steps[number].gained for steps in each) for number in range(len(ridges))]
    return ridges[max(range(len(ridges)), key=gained.__getitem__)]


def fewest(table: Mapping[int, float]) -> int:
    """The fewest directions that separate nearly as much as the best number does."""
    most = max(table.values())
    return next(r for r in table if most - table[r] <= (1 - ENOUGH) * abs(most))


@dataclass(frozen=True, eq=False)
class Step:
    """The styles' steps under one ridge, and the efficiency of each rank of each style."""

    ridge: float
    directions: list[Directions]
    tables: list[dict[int, float]]

    @property
    def gained(self) -> float:
        """What the best rank of each style separates, for what it moves the model."""
        return sum(max(table.values()) for table in self.tables)


def steps_of(
    sums: Statistics,
    head: Head,
    held_out: States | None,
    ridges: Sequence[float],
    rank: int | None,
) -> list[Step]:
    """The step under each ridge, judged by held-out tokens if there are any."""
    values, outlook = Values.centred(sums), Expectation.of(sums.expected)
    pull = downhill(sums, values, outlook)
    curvature = Curvature.of(values.inner(sums), outlook.curvature)
    judge = None
    if held_out is not None:
        middle = sums.weight[0, 1:] / sums.weight[0, 0]
        judge = Separation.of(head, held_out, middle.to(held_out.labels))
    return [_step(curvature, ridge, pull, judge, rank) for ridge in ridges]


def _step(
    curvature: Curvature,
    ridge: float,
    pull: Float[Tensor, "styles dim dim"],
    judge: Separation | None,
    rank: int | None,
) -> Step:
    directions, tables = [], []
    for number, whole in enumerate(curvature.damped_inverse(ridge)(pull)):
        directions.append(Directions.of(whole, curvature, number))
        full = len(whole)
        if judge is None:
            tables.append({rank or full: 0.0})
            continue
        ranks = [*(r for r in RANKS if r < full), full] if rank is None else [rank]
        cut = {r: directions[-1].matrix(r).to(judge.pull) for r in ranks}
        tables.append({r: judge.efficiency(cut[r], number) for r in ranks})
    return Step(ridge, directions, tables)
