"""The default solver: one streaming pass, then damped Newton steps from sums.

The style is one step from the base model (`..step`). Its ridge and its rank are those that separate
the labels of held-out texts most for what they move the model (`choosing`). Its length is a
convention: strength 1 moves the model by the same distance at a typical token (`..unit`), so that
equal strengths of any two steers cost about the same. The domain part takes several steps
(`domain`). The head reads one token in eight during the pass, and a few thousand tokens after it.
"""

from __future__ import annotations

import torch

from ...states import EVERY, Part, gather
from ..objective import Map, mean_nll
from ..unit import in_units
from .choosing import choose
from .domain import learn_domain, steps_for
from .problem import Fitted, Problem

# The head reads few tokens besides those of the pass, the fewer the fewer texts there are: one in
# so many, within bounds.
JUDGED_ON = (16, 512, 2048)
"""Held-out tokens that choose ridge and rank."""
FOLLOWED_ON = (64, 512, 2048)
"""Those on which the domain part's steps are followed."""
REPORTED_ON, MEASURED_ON = 1024, 512
"""Held-out tokens whose NLL the record tells, and those that set the length at strength 1."""


def fit_newton(problem: Problem) -> Fitted:
    """Learn each style in one step, then the domain in several.

    Where nothing is held out, the ridge is the prior's, all directions are kept, and the steps of
    the domain part are of a fixed length.
    """
    options, head = problem.options, problem.working_head()
    tokens = int(problem.encoded.target_counts.sum())
    judging, following = _some(tokens, JUDGED_ON), _some(tokens, FOLLOWED_ON)
    parts = [Part.keeping(problem.encoded, problem.kept, following, EVERY)]
    if problem.tested:
        parts.append(Part.keeping(problem.encoded, problem.tested, judging, 0))
    sums, *others = gather(
        problem.model,
        head,
        problem.encoded,
        parts,
        progress=options["progress"],
        fast=options["fast"],
        keep=problem.keep,
        workers=problem.processes,
    )
    steps = (options["steps"] or steps_for(sums.tokens)) if options["domain"] else 0

    def tell(done: int) -> None:
        if options["progress"]:
            options["progress"]("fit", done, steps + 1)

    judges = others[0].sample if others else None
    chosen = choose(sums, head, judges, options["ridge"], options["rank"])
    # Labels have no say in a divergence, so training tokens serve where there are no others.
    seen = judges or sums.sample
    factors = [in_units(head, seen.spread(MEASURED_ON), P, Q) for P, Q in chosen.factors()]
    tell(1)
    if steps:
        few = judges and judges.spread(following)
        domain, chosen.course["domain_nll"] = learn_domain(
            head, sums, few, steps, options["rank"], lambda number: tell(2 + number)
        )
        factors.append(domain)
        tell(steps + 1)
    nll = None
    if judges is not None:
        few = judges.spread(REPORTED_ON)
        matrices = torch.stack([(P @ Q.T).to(few.device) for P, Q in factors])
        final = Map(matrices, options["domain"])
        before, after = (mean_nll(problem.head, few, which) for which in (None, final))
        nll = (before, after, len(few))
    record = {"solver": options["solver"], "processes": problem.processes.size}
    each = [{"rank": {"kept": P.shape[1], "of": sums.dim}} for P, _ in factors]
    return Fitted(factors, record | {"course": chosen.course}, each, nll)


def _some(tokens: int, bounds: tuple[int, int, int]) -> int:
    one_in, least, most = bounds
    return min(most, max(least, tokens // one_in))
