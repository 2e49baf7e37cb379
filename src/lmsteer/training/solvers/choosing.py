"""Which step each style takes: ridge and rank by what separates the labels of held-out texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ...model import Head
from ...states import States
from ..curvature import Curvature, Directions
from ..expectation import Expectation
from ..objective import Map, expected_descent, mean_nll
from ..separation import Separation, root_divergence_of

HEAD_TOKENS = 4096
"""The number of tokens, evenly spread over all, that the head reads for one step."""
JUDGED_ON = 1024
"""The number of held-out tokens that decide how far a step of the domain part goes."""
UNIT = 0.1
"""The mean root of the divergence from the base model at strength 1, in roots of nats."""
# The prior's weight in tokens: ridge = PRIOR_TOKENS / tokens, in units of the mean curvature.
# Where texts are held out, they choose among multiples of it.
PRIOR_TOKENS, MULTIPLES = 1e5, (0.1, 0.3, 1.0, 3.0)
# The fewest directions are kept that separate at least this share of what the best rank does.
RANKS, ENOUGH = (4, 8, 16, 32, 64, 128, 256), 0.95


class Work:
    """What all steps read: the tokens to learn from, a sample of them, and the held-out ones."""

    def __init__(self, head: Head, states: States, held_out: States | None) -> None:
        self.head, self.states, self.held_out = head, states, held_out
        self.sample = states.spread(HEAD_TOKENS)
        self.judges = None if held_out is None else held_out.spread(JUDGED_ON)
        self.centre = _mean_labels(states)

    def outlook(self, learned: Map) -> Expectation:
        """What the model expects, where the map has moved it."""
        rows = learned.rows(self.sample, self.head.weight.dtype)
        return Expectation.of(self.head, self.sample, rows)

    def loss(self, learned: Map) -> float:
        """The NLL of the judging tokens, in nats."""
        assert self.judges is not None
        return mean_nll(self.head, self.judges, learned)


def _mean_labels(states: States) -> Float[Tensor, " styles"]:
    total, weight = states.weights @ states.labels, states.weights.sum()[None]
    states.workers.add(total, weight)
    return total / weight


def choose(
    work: Work, learned: Map, outlook: Expectation, ridge: float | None, rank: int | None
) -> tuple[list[tuple[Tensor, Tensor]], dict[str, Any]]:
    """P and Q of each style, and how ridge and rank were chosen.

    Args:
        work: The tokens.
        learned: The map at which the step begins, and at which `outlook` was taken.
        outlook: What the model expects there.
        ridge: The ridge, or None to choose it.
        rank: The number of directions to keep, or None to choose it.
    """
    values = work.states.labels - work.centre
    pull, inner = expected_descent(work.head, work.states, learned, outlook, values)
    curvature = Curvature.of(inner, outlook.curvature)
    judge = None
    if work.held_out is not None:
        judge = Separation.of(work.head, work.held_out, work.centre)
    prior = PRIOR_TOKENS / len(work.states)
    ridges = [prior * multiple for multiple in MULTIPLES] if judge else [prior]
    tried = [
        _split(curvature, value, pull, judge, rank)
        for value in (ridges if ridge is None else [ridge])
    ]
    best = max(tried, key=lambda one: one.gained)
    course = {
        "ridge": best.ridge,
        "ridges_tried": [one.ridge for one in tried],
        "rank_separation": [{str(r): table[r] for r in table} for table in best.tables],
    }
    # Labels have no say in a divergence, so training tokens serve where there are no others.
    seen = work.judges or work.states.spread(JUDGED_ON)
    factors = []
    for directions, table in zip(best.directions, best.tables, strict=True):
        most = max(table.values())
        kept = next(r for r in table if most - table[r] <= (1 - ENOUGH) * abs(most))
        P, Q = directions.factors(kept)
        root = root_divergence_of(work.head, seen, (P @ Q.T).to(pull)) or UNIT
        size = (UNIT / root) ** 0.5  # of each factor
        factors.append((P * size, Q * size))
    return factors, course


@dataclass(frozen=True, eq=False)
class _Split:
    """The styles' steps under one ridge, and the efficiency of each rank of each style."""

    ridge: float
    directions: list[Directions]
    tables: list[dict[int, float]]

    @property
    def gained(self) -> float:
        """What the best rank of each style separates, for what it moves the model."""
        return sum(max(table.values()) for table in self.tables)


def _split(
    curvature: Curvature,
    ridge: float,
    pull: Float[Tensor, "styles dim dim"],
    judge: Separation | None,
    rank: int | None,
) -> _Split:
    directions, tables = [], []
    for number, whole in enumerate(curvature.damped_inverse(ridge)(pull)):
        directions.append(Directions.of(whole, curvature, number))
        if judge is None:
            tables.append({rank or len(whole): 0.0})
            continue
        ranks = _ranks(len(whole)) if rank is None else [rank]
        cut = {r: directions[-1].matrix(r).to(whole) for r in ranks}
        tables.append({r: judge.efficiency(cut[r], number) for r in ranks})
    return _Split(ridge, directions, tables)


def _ranks(full: int) -> list[int]:
    return [*(rank for rank in RANKS if rank < full), full]
