"""The default solver: second-order steps towards the one optimum of a convex problem.

Steps on the cached states, preconditioned by the damped curvature at W = 0, with a ridge that
belongs to a fixed prior on the map: its weight against the mean loss falls as 1 / tokens. Nothing
is drawn at random: the order of the tokens is fixed, so the same text gives the same steer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

from ..model import Head
from ..states import Progress, States
from .curvature import Curvature, curvature_of
from .objective import Map, gradient, mean_nll

BATCH_TOKENS = 4096
EPOCHS = 2
FEWEST_STEPS = 60
MOMENTUM = 0.9
# Against a Newton step of 1: small, since a batch's gradient is noisy; large where it is exact.
RATE_NOISY, RATE_EXACT = 0.06, 0.3
# The prior's weight in tokens: ridge = PRIOR_TOKENS / tokens, in units of the mean curvature.
# On SST-5 (195k tokens) ridges of 0.03, 0.3, 0.5, 1 and 3 reach 4.919, 4.904, 4.903, 4.909, 4.943.
PRIOR_TOKENS = 1e5
# Fewer tokens leave the right ridge less certain, and cost little: from a strong one downwards,
# each begun where the one before ended, until the held-out loss gains no more.
TRIED_BELOW = 1 << 16
STRONGEST, FALL, MOST_TRIED, LEAST_GAIN = 3.0, 10**0.5, 12, 2e-3
STEPS_FOLLOWING = 25  # of a ridge that begins where a stronger one ended
LEAST_DAMPING = 0.3
EVALUATIONS = 6


@dataclass(frozen=True, eq=False)
class _Fit:
    learned: Map
    nll: float
    course: list[list[float]]
    ridge: float
    steps: int


def fit_convex(
    head: Head,
    states: States,
    held_out: States | None,
    *,
    domain: bool,
    steps: int | None,
    progress: Progress | None,
    started: float,
    start: Map | None = None,
    ridge: float | None = None,
) -> tuple[Map, Curvature, dict[str, Any]]:
    """Minimise the ridged NLL; ridge and stopping are chosen on the held-out states.

    Args:
        head: What does the work: a fast copy, unless all is to be float32.
        states: Of the texts to learn from, in an order that does not depend on how they came.
        held_out: Of texts to choose by, or None: then the ridge is the prior's and the last
            iterate is taken.
        domain: Learn the domain part too.
        steps: At most so many steps for each ridge.
        progress: Called as ``progress("fit", step, total)``.
        started: When training began, by `time.perf_counter`.
        start: Where to begin, and what the ridge holds the map to; zero by default.
        ridge: Instead of the one that is chosen, in units of the mean curvature.

    Returns:
        The map at full rank, the curvature, and the course over all ridges tried:
        ``[seconds since started, step, held-out NLL]``.
    """
    curvature = curvature_of(head, states, domain=domain)
    prior = PRIOR_TOKENS / len(states)
    several = ridge is None and held_out is not None and len(states) < TRIED_BELOW
    tried: list[_Fit] = []
    for number in range(MOST_TRIED if several else 1):
        one = prior if ridge is None else ridge
        fit = _descend(
            head,
            states,
            held_out,
            curvature,
            prior * STRONGEST / FALL**number if several else one,
            tried[-1].learned if tried else None,
            start or Map.zeros(states, domain=domain),
            steps=steps,
            progress=progress,
            started=started,
        )
        tried.append(fit)
        if len(tried) > 1 and fit.nll > tried[-2].nll - LEAST_GAIN:
            break
    best = min(tried, key=lambda fit: fit.nll)
    return (
        best.learned,
        curvature,
        {
            "steps": best.steps,
            "ridge": best.ridge,
            "ridges_tried": [fit.ridge for fit in tried],
            "held_out_nll": [point for fit in tried for point in fit.course],
            "exact_curvature": head.is_linear,
        },
    )


def _descend(
    head: Head,
    states: States,
    held_out: States | None,
    curvature: Curvature,
    ridge: float,
    first: Map | None,
    centre: Map,
    *,
    steps: int | None,
    progress: Progress | None,
    started: float,
) -> _Fit:
    count = len(states)
    exact = count <= BATCH_TOKENS
    fewest = FEWEST_STEPS if first is None else STEPS_FOLLOWING
    total = steps or max(fewest, round(EPOCHS * count / BATCH_TOKENS))
    rate = (RATE_EXACT if exact else RATE_NOISY) * (1 - MOMENTUM)
    solve = curvature.solver(max(ridge, LEAST_DAMPING))
    pull = ridge * curvature.mean
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    learned = (first or centre).clone()
    velocity = torch.zeros_like(learned.parts)
    best, best_nll = learned.clone(), float("inf")
    course: list[list[float]] = []
    for step in range(total):
        batch = states
        if not exact:
            places = torch.arange(step * BATCH_TOKENS, (step + 1) * BATCH_TOKENS) % count
            batch = states.take(order[places])
        slope = gradient(head, batch, learned)
        velocity.mul_(MOMENTUM).add_(solve(slope.add_(learned.parts - centre.parts, alpha=pull)))
        warm = min(1.0, (step + 1) / 4)
        learned.parts.sub_(velocity, alpha=rate * warm * (1 - step / total))
        if progress:
            progress("fit", step + 1, total)
        last = step + 1 == total
        if held_out is not None and (last or (step + 1) % max(1, total // EVALUATIONS) == 0):
            nll = mean_nll(head, held_out, learned)
            course.append([round(time.perf_counter() - started, 3), step + 1, nll])
            if nll < best_nll:
                best, best_nll = learned.clone(), nll
    return _Fit(best if held_out is not None else learned, best_nll, course, ridge, total)
