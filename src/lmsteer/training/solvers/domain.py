"""The domain part of a map: what all texts share, in steps that held-out text judges."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..curvature import Curvature, Directions
from ..expectation import Expectation
from ..objective import Map, expected_descent
from .choosing import ENOUGH, Work

RIDGE = 3.0
# More texts afford more steps: the head reads about a quarter as many tokens for them as there are.
FEWEST_STEPS, MOST_STEPS, TOKENS_PER_STEP, LEAST_GAIN = 3, 12, 1 << 14, 2e-3
# A whole step leads too far: the quadratic model holds near the base model alone.
LENGTHS, UNJUDGED_LENGTH = (0.5, 0.25, 0.125), 0.25
RANKS = (16, 64, 256)


def steps_for(tokens: int) -> int:
    """The number of steps that so many tokens afford."""
    return min(MOST_STEPS, max(FEWEST_STEPS, tokens // TOKENS_PER_STEP))


def learn_domain(
    work: Work,
    learned: Map,
    outlook: Expectation,
    steps: int,
    rank: int | None,
    tell: Callable[[int], None],
) -> tuple[tuple[Tensor, Tensor], list[float]]:
    """Learn the domain part, until a step no longer helps.

    Args:
        work: The tokens.
        learned: A map of zeros, at which `outlook` was taken; it is changed in place.
        outlook: What the model expects there.
        steps: The largest number of steps, at least 1.
        rank: The number of directions to keep, or None to choose it.
        tell: Called with the number of each step that is done.

    Returns:
        P and Q, and the NLL of the judging tokens before the first step and after each (empty
        where nothing is held out).
    """
    ones = torch.ones_like(work.states.weights)[:, None]
    curvature, course = None, [] if work.judges is None else [work.loss(learned)]
    for number in range(steps):
        outlook = work.outlook(learned) if number else outlook
        pull, inner = expected_descent(work.head, work.states, learned, outlook, ones)
        curvature = curvature or Curvature.of(inner, outlook.curvature)
        (step,) = curvature.damped_inverse(RIDGE)(pull)
        if not _move(work, learned, step, course):
            break
        tell(number)
    assert curvature is not None
    directions = Directions.of(learned.parts[-1], curvature, 0)
    return directions.factors(rank or _fewest(work, learned, directions, course)), course


def _fewest(work: Work, learned: Map, directions: Directions, course: list[float]) -> int:
    """The fewest directions that keep nearly all of what the part gains on held-out text."""
    full = learned.parts.shape[1]
    if not course:
        return full
    trial = learned.clone()
    for rank in (r for r in RANKS if r < full):
        trial.parts[-1] = directions.matrix(rank).to(trial.parts)
        if work.loss(trial) <= course[0] - ENOUGH * (course[0] - course[-1]):
            return rank
    return full


def _move(work: Work, learned: Map, step: Tensor, course: list[float]) -> bool:
    """Move the domain part, as far along the step as helps; whether any length of it does."""
    before = learned.parts[-1].clone()
    if work.judges is None:
        learned.parts[-1] = before + UNJUDGED_LENGTH * step
        return True
    least, best = course[-1], 0.0
    for length in LENGTHS:
        learned.parts[-1] = before + length * step
        loss = work.loss(learned)
        if loss >= least and best:
            break
        if loss < least:
            least, best = loss, length
    learned.parts[-1] = before + best * step
    course.append(least)
    return course[-2] - least > LEAST_GAIN
