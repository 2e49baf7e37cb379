"""Which step each style takes: ridge and rank by what separates the labels of held-out texts."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from ...model import Head
from ...states import States
from ..curvature import Curvature, Directions
from ..expectation import Expectation
from ..objective import Map, expected_descent, mean_nll
from ..separation import Separation, divergence_of

HEAD_TOKENS = 4096
"""The number of tokens, evenly spread over all, that the head reads for one step."""
JUDGED_ON = 1024
"""The number of held-out tokens that decide how far a step of the domain part goes."""
UNIT = 0.02
"""The divergence from the base model at strength 1, in nats per token, to second order."""
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
    tried = []
    for value in ridges if ridge is None else [ridge]:
        step = curvature.damped_inverse(value)(pull)
        gained = sum(judge.efficiency(W, i) for i, W in enumerate(step)) if judge else 0.0
        tried.append((gained, value, step))
    gained, best, step = max(tried, key=lambda one: one[0])
    course: dict[str, Any] = {"ridge": best, "ridges_tried": [value for _, value, _ in tried]}
    course["rank_separation"] = []
    # Labels have no say in a divergence, so training tokens serve where there are no others.
    seen = work.judges or work.states.spread(JUDGED_ON)
    factors = []
    for number, whole in enumerate(step):
        directions, full = Directions.of(whole, curvature, number), len(whole)
        kept = rank or full
        if rank is None and judge is not None:
            table = {
                r: judge.efficiency(directions.matrix(r).to(whole), number) for r in _ranks(full)
            }
            most = max(table.values())
            kept = next(r for r in table if most - table[r] <= (1 - ENOUGH) * abs(most))
            course["rank_separation"].append({str(r): table[r] for r in table})
        P, Q = directions.factors(kept)
        # To second order the divergence grows with the fourth power of the factors' size.
        size = (UNIT / (divergence_of(work.head, seen, (P @ Q.T).to(whole)) or UNIT)) ** 0.25
        factors.append((P * size, Q * size))
    return factors, course


def _ranks(full: int) -> list[int]:
    return [*(rank for rank in RANKS if rank < full), full]
