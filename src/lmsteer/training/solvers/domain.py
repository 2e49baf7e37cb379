"""The domain part of a map: what all texts share, in steps that held-out text judges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..curvature import Curvature, Directions
from ..expectation import Expectation
from ..objective import Map, expected_descent
from .choosing import ENOUGH, Work

RIDGE = 3.0
STEPS = 3
# A whole step leads too far: the quadratic model holds near the base model alone.
LENGTHS, UNJUDGED_LENGTH = (0.5, 0.25, 0.125), 0.25
RANKS = (16, 64, 256)


@dataclass(frozen=True, eq=False)
class Domain:
    """How the domain part was learned.

    Args:
        curvature: The curvature of the loss by it.
        course: The judging tokens' NLL before the first step and after each; empty where nothing
            is held out.
    """

    curvature: Curvature
    course: list[float]

    def directions(self, learned: Map) -> Directions:
        """The domain part of a map, split."""
        return Directions.of(learned.parts[-1], self.curvature, 0)

    def rank(self, work: Work, learned: Map) -> int:
        """The fewest directions that keep nearly all of what the part gains on held-out text."""
        full = learned.parts.shape[1]
        if work.judges is None:
            return full
        directions, trial = self.directions(learned), learned.clone()
        trial.parts[-1] = 0.0
        without, whole = work.loss(trial), work.loss(learned)
        for rank in (r for r in RANKS if r < full):
            P, Q = directions.factors(rank)
            trial.parts[-1] = (P @ Q.T).to(trial.parts)
            if work.loss(trial) <= without - ENOUGH * (without - whole):
                return rank
        return full


def learn_domain(
    work: Work, learned: Map, outlook: Expectation, steps: int, tell: Callable[[int], None]
) -> Domain:
    """Learn the domain part in place, until a step no longer helps.

    Args:
        work: The tokens.
        learned: The map, at which `outlook` was taken.
        outlook: What the model expects there.
        steps: The largest number of steps.
        tell: Called with the number of each step that is done.
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
    return Domain(curvature, course)


def _move(work: Work, learned: Map, step: torch.Tensor, course: list[float]) -> bool:
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
    return best > 0
