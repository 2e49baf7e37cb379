"""The reference solver: second-order steps towards the one optimum of a convex problem.

The steps are made on the cached states and preconditioned by the damped curvature at W = 0. The
ridge stands for a fixed prior on the map: its weight against the mean loss falls as 1 / tokens.
Nothing is drawn at random: the order of the tokens is fixed, so the same text gives the same
steer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...model import Head
from ...states import States
from ...steer import Steer
from ..curvature import Curvature, curvature_of
from ..descent import Descent, descend
from ..objective import Map, gradient, mean_nll
from .problem import Fitted, Problem, choose_judges
from .ranks import finish

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
class _Trial:
    """What one ridge has led to."""

    ridge: float
    learned: Map
    went: Descent


def fit_convex(problem: Problem) -> Fitted:
    """Minimise the NLL with a ridge; the ridge and when to stop are chosen on held-out text.

    Where nothing is held out, the ridge is the prior's and the last state is kept. The course goes
    over all ridges that were tried.
    """
    options, head = problem.options, problem.working_head()
    states, held_out = problem.read()
    judges = choose_judges(held_out)
    centre = _begin(options["start"], states, domain=options["domain"])
    curvature = curvature_of(head, states, domain=options["domain"])
    prior = PRIOR_TOKENS / len(states)
    ridges = [prior if options["ridge"] is None else options["ridge"]]
    if options["ridge"] is None and judges is not None and len(states) < TRIED_BELOW:
        ridges = [prior * STRONGEST / FALL**number for number in range(MOST_TRIED)]
    tried: list[_Trial] = []
    for ridge in ridges:
        first = tried[-1].learned if tried else None
        tried.append(_try(problem, head, states, judges, curvature, ridge, first, centre))
        if len(tried) > 1 and tried[-1].went.least > tried[-2].went.least - LEAST_GAIN:
            break
    best = min(tried, key=lambda trial: trial.went.least)
    course = {
        "steps": best.went.steps,
        "ridge": best.ridge,
        "ridges_tried": [trial.ridge for trial in tried],
        "held_out_nll": [point for trial in tried for point in trial.went.course],
        "exact_curvature": head.is_linear,
    }
    return finish(problem, best.learned, head, held_out, course, curvature)


def _begin(start: Steer | None, states: States, *, domain: bool) -> Map:
    """Where a fit begins, and what the ridge holds the map to: a steer, or the base model."""
    zero = Map.zeros(states, domain=domain)
    if start is None:
        return zero
    parts = [start.matrix()]
    if domain:
        part = start.domain
        parts.append(torch.zeros_like(parts[0]) if part is None else part.matrix())
    return Map(torch.stack(parts).to(zero.parts), domain)


def _try(
    problem: Problem,
    head: Head,
    states: States,
    judges: States | None,
    curvature: Curvature,
    ridge: float,
    first: Map | None,
    centre: Map,
) -> _Trial:
    """Descend under one ridge, from where a stronger one ended."""
    options, count = problem.options, len(states)
    exact = count <= BATCH_TOKENS
    fewest = FEWEST_STEPS if first is None else STEPS_FOLLOWING
    total = options["steps"] or max(fewest, round(EPOCHS * count / BATCH_TOKENS))
    rate = (RATE_EXACT if exact else RATE_NOISY) * (1 - MOMENTUM)
    newton = curvature.damped_inverse(max(ridge, LEAST_DAMPING))
    pull = ridge * curvature.mean
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    learned = (first or centre).clone()
    velocity = torch.zeros_like(learned.parts)

    def move(step: int) -> None:
        batch = states
        if not exact:
            places = torch.arange(step * BATCH_TOKENS, (step + 1) * BATCH_TOKENS) % count
            batch = states.take(order[places])
        slope = gradient(head, batch, learned)
        velocity.mul_(MOMENTUM).add_(newton(slope.add_(learned.parts - centre.parts, alpha=pull)))
        warm = min(1.0, (step + 1) / 4)
        learned.parts.sub_(velocity, alpha=rate * warm * (1 - step / total))

    went = descend(
        [learned.parts],
        move,
        total,
        judge=None if judges is None else lambda: mean_nll(head, judges, learned),
        every=max(1, total // EVALUATIONS),
        started=problem.started,
        progress=options["progress"],
    )
    return _Trial(ridge, learned, went)
