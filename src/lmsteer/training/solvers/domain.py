"""The domain part of a map: what all texts share, in steps that held-out text judges.

Texts lie further from the base model than their labels separate them, so one step is not enough.
The slope at every step is a product of the same sums; only what the model expects of the moved rows
has to be read anew, on a few rows. What it expects has nothing to do with the targets, so the rows
that judge how far a step goes serve for that too.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from ...model import Head
from ...states import Expectation, Reading, States, Statistics
from ..curvature import Curvature, Directions
from ..objective import Map, mean_nll
from ..step import Values, downhill
from .choosing import ENOUGH

RIDGE = 3.0
FEWEST_STEPS, MOST_STEPS, TOKENS_PER_STEP, LEAST_GAIN = 3, 12, 1 << 14, 2e-3
# A whole step leads too far: the quadratic model holds near the base model alone.
FIRST_LENGTH, LEAST_LENGTH, MOST_LENGTH, NEAR = 0.25, 0.05, 1.0, 0.3
RANKS = (16, 64, 256)


def steps_for(tokens: int) -> int:
    """The number of steps that so many tokens afford."""
    return min(MOST_STEPS, max(FEWEST_STEPS, tokens // TOKENS_PER_STEP))


def learn_domain(
    head: Head,
    sums: Statistics,
    held_out: States | None,
    steps: int,
    rank: int | None,
    tell: Callable[[int], None],
) -> tuple[tuple[Tensor, Tensor], list[float]]:
    """Learn the domain part, until a step no longer helps.

    Args:
        head: The head that does the work.
        sums: The texts.
        held_out: Held-out tokens that decide how far each step goes and which rank is kept; None:
            each goes equally far, and all directions are kept.
        steps: The largest number of steps, at least 1.
        rank: The number of directions to keep, or None to choose it.
        tell: Called with the number of each step that is done.

    Returns:
        P and Q, and the NLL of the judging tokens before the first step and after each (empty
        where nothing is held out).
    """
    first = Expectation.of(sums.expected)
    values, rows = Values.constant(sums), held_out or sums.sample
    damped = (curvature := Curvature.of(values.inner(sums), first.curvature)).damped_inverse(RIDGE)
    at = _Place(head, rows, first, torch.zeros(sums.dim, sums.dim, dtype=torch.float64))
    course = [at.loss] if held_out else []
    length = FIRST_LENGTH
    for number in range(steps):
        slope = downhill(sums, values, at.outlook, at.domain)
        (step,) = damped(slope)
        if held_out is None:
            at = at.moved(length * step)
            tell(number)
            continue
        found, length = _along(at, step, float((slope[0] * step).sum()), length)
        gained, at = at.loss - found.loss, found
        course.append(at.loss)
        if gained <= LEAST_GAIN:
            break
        tell(number)
    directions = Directions.of(at.domain, curvature, 0)
    if rank is None:
        rank = sums.dim if held_out is None else _fewest(head, held_out, directions, course)
    P, Q = directions.factors(rank)
    return (P.float(), Q.float()), course


def _along(at: _Place, step: Tensor, gain: float, length: float) -> tuple[_Place, float]:
    """The best place along a step that was found in two trials, and the length that led there.

    The second trial is at the lowest point of the parabola through the loss here, the slope here
    (`gain` nats per length, downhill) and the loss of the first.
    """
    first = at.moved(length * step)
    bend = (first.loss - at.loss + gain * length) / length**2
    lowest = min(MOST_LENGTH, max(LEAST_LENGTH, gain / (2 * bend) if bend > 0 else MOST_LENGTH))
    if abs(lowest / length - 1) < NEAR:
        tried = [(first, length)]
    else:
        tried = [(first, length), (at.moved(lowest * step), lowest)]
    found, length = min(tried, key=lambda one: one[0].loss)
    return (found, length) if found.loss < at.loss else (at, length)


class _Place:
    """A domain part, what the model expects under it, and the NLL of the rows that it was read on.

    Args:
        head: The head that reads.
        rows: The rows.
        first: What the model expects of unmoved rows.
        domain: The part.
    """

    def __init__(
        self, head: Head, rows: States, first: Expectation, domain: Float[Tensor, "dim dim"]
    ) -> None:
        self.domain = domain
        self._head, self._rows, self._first = head, rows, first
        reading, moved = Reading(head), domain_alone(domain, rows)
        reading.add(moved.rows(rows, head.weight.dtype), rows.weights, rows.targets)
        self.loss = reading.nll / float(rows.weights.sum())
        self._reading = reading

    @property
    def outlook(self) -> Expectation:
        """What the model expects here."""
        if not self.domain.any():
            return self._first
        return self._first.corrected(self._reading)

    def moved(self, step: Float[Tensor, "dim dim"]) -> _Place:
        """The place that a step leads to."""
        return _Place(self._head, self._rows, self._first, self.domain + step)


def domain_alone(domain: Float[Tensor, "dim dim"], rows: States) -> Map:
    """A map that moves all rows alike."""
    parts = torch.zeros(rows.labels.shape[1] + 1, *domain.shape, device=rows.device)
    parts[-1] = domain.to(parts)
    return Map(parts, domain=True)


def _fewest(head: Head, judges: States, directions: Directions, course: list[float]) -> int:
    """The fewest directions that keep nearly all of what the part gains on held-out text."""
    full = len(directions.left)
    enough = course[0] - ENOUGH * (course[0] - course[-1])
    for rank in (r for r in RANKS if r < full):
        if mean_nll(head, judges, domain_alone(directions.matrix(rank), judges)) <= enough:
            return rank
    return full
