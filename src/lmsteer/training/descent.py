"""The loop of every optimiser here: steps, looks at the held-out loss, the best state kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..states import Progress


@dataclass(frozen=True)
class Descent:
    """How a descent went.

    Args:
        steps: The number of steps that were made.
        course: ``[seconds, steps made, held-out loss]`` of each look.
        least: The least held-out loss; infinite where nobody looked.
    """

    steps: int
    course: list[list[float]]
    least: float


def descend(
    parameters: Sequence[Tensor],
    move: Callable[[int], None],
    steps: int,
    *,
    judge: Callable[[], float] | None = None,
    every: int = 1,
    look_first: bool = False,
    patience: int | None = None,
    keep_best: bool = True,
    started: float | None = None,
    stage: str = "fit",
    progress: Progress | None = None,
) -> Descent:
    """Move the parameters step by step; leave them as they were at the best look.

    Args:
        parameters: What is learned, in place.
        move: Makes the step of the given number, counted from 0; see `by_gradient`.
        steps: The largest number of steps.
        judge: Gives the held-out loss of the parameters as they are. Without it the last state is
            kept.
        every: The number of steps from look to look; the last step is always looked at.
        look_first: Whether to look before the first step too.
        patience: The number of looks without a gain after which to stop.
        keep_best: Whether to return to the state of the least held-out loss at the end.
        started: When the clock of the course began, by `time.perf_counter`. None: the course
            counts the time of the steps alone.
        stage: The name that `progress` is given.
        progress: Called as ``progress(stage, step, steps)``.
    """
    course: list[list[float]] = []
    best = _copies(parameters) if judge and keep_best else []
    least, stale, done, seconds = float("inf"), 0, 0, 0.0
    if judge and look_first:
        least = judge()
        course.append([0.0, 0, least])
    while done < steps:
        begun = time.perf_counter()
        move(done)
        seconds += time.perf_counter() - begun
        done += 1
        if progress:
            progress(stage, done, steps)
        if judge is None or (done % every and done < steps):
            continue
        loss = judge()
        elapsed = seconds if started is None else time.perf_counter() - started
        course.append([round(elapsed, 3), done, loss])
        stale += 1
        if loss < least:
            best = _copies(parameters) if keep_best else []
            least, stale = loss, 0
        if stale == patience:
            break
    with torch.no_grad():
        for parameter, value in zip(parameters, best, strict=False):
            parameter.copy_(value)
    return Descent(done, course, least)


def by_gradient(
    optimiser: torch.optim.Optimizer,
    gradient: Callable[[int], None],
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
) -> Callable[[int], None]:
    """The `move` of an optimiser of torch.

    Args:
        optimiser: It has the parameters.
        gradient: Puts the gradient of the step of the given number into the parameters' ``grad``.
        schedule: Sets the rate from step to step.
    """

    def move(step: int) -> None:
        optimiser.zero_grad()
        gradient(step)
        optimiser.step()
        if schedule is not None:
            schedule.step()

    return move


def warmed_up(
    optimiser: torch.optim.Optimizer, steps: int, warm: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """A schedule whose rate rises over `warm` steps, and falls linearly to 0 over all."""
    return torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, (step + 1) / warm) * (1 - step / steps)
    )


def _copies(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in parameters]
