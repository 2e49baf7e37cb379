"""The default solver: damped Newton steps for which the head reads a sample of the tokens.

At a map M the mean NLL has the gradient ``-mean y h (e_x - b(h'))^T``: h is a token's row, h' the
row as M steers it, y the label of its text, e_x the embedding of the target, b the embedding that
the model expects. Only b needs the scores of the whole vocabulary, and a regression on h' stands
for it (`Expectation`). So the head reads a sample of the tokens, and the others cost the trunk and
a few products of ``dim x dim``.

The style is one step from where training begins, with the labels centred: what all texts share
would otherwise enter as far as the labels do not cancel. Its ridge and its rank are those that
part the labels of held-out texts most for what they move the model (`Separation`). The domain part
takes several steps, since texts lie further from the base model than their labels part them. How
far each step goes is decided by the NLL of held-out tokens, so strength 1 is the likeliest for a
text with the label 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..objective import Map, mean_nll
from .choosing import Style, Work, choose
from .domain import STEPS, Domain, learn_domain
from .problem import Fitted, Problem, begin

LONGER, MOST_TRIED = 1.5, 8


def fit_newton(problem: Problem) -> Fitted:
    """Learn each style in one step, then the domain in several.

    Where nothing is held out, the ridge is the prior's, all directions are kept, and steps are as
    long as a constant says.
    """
    options = problem.options
    states, held_out = problem.read()
    work = Work(problem.working_head(), states, held_out)
    learned = begin(options["start"], states, domain=options["domain"])
    steps = (options["steps"] or STEPS) if options["domain"] else 0

    def tell(done: int) -> None:
        if options["progress"]:
            options["progress"]("fit", done, steps + 3)

    outlook = work.outlook(learned)
    tell(1)
    styles, course = choose(work, learned, outlook, options["ridge"], options["rank"])
    tell(2)
    domain = None
    if steps:
        domain = learn_domain(work, learned, outlook, steps, lambda number: tell(3 + number))
        course["domain_nll"] = domain.course
    course["length"] = _lengthen(work, learned, [style.matrix for style in styles])
    tell(steps + 3)
    return _finish(problem, work, learned, styles, domain, course)


def _lengthen(work: Work, learned: Map, steps: Sequence[Float[Tensor, "dim dim"]]) -> float:
    """Add the styles' steps to the map, as far as held-out tokens find likeliest."""
    styles = slice(0, len(steps))
    before, step = learned.parts[styles].clone(), torch.stack(list(steps)).to(learned.parts)
    if work.judges is None:
        learned.parts[styles] = before + step
        return 1.0
    losses: dict[float, float] = {}

    def loss(length: float) -> float:
        if length not in losses:
            learned.parts[styles] = before + length * step
            losses[length] = work.loss(learned)
        return losses[length]

    # The loss is convex in the length, so walk downhill.
    length, factor = 1.0, LONGER if loss(LONGER) < loss(1.0) else 1 / LONGER
    for _ in range(MOST_TRIED):
        if loss(length * factor) >= loss(length):
            break
        length *= factor
    learned.parts[styles] = before + length * step
    return length


def _finish(
    problem: Problem,
    work: Work,
    learned: Map,
    styles: Sequence[Style],
    domain: Domain | None,
    course: dict[str, Any],
) -> Fitted:
    """The map as factors, and how held-out texts fare under it."""
    options, start = problem.options, problem.options["start"]
    full = learned.parts.shape[1]
    splits = [style.split(whole) for style, whole in zip(styles, learned.parts, strict=False)]
    ranks = [
        style.kept if start is None else min(full, style.kept + start.rank) for style in styles
    ]
    if domain is not None:
        splits.append(domain.directions(learned))
        ranks.append(domain.rank(work, learned))
    if options["rank"] is not None:
        ranks = [options["rank"]] * len(ranks)
    factors = [split.factors(rank) for split, rank in zip(splits, ranks, strict=True)]
    final = Map(torch.stack([P @ Q.T for P, Q in factors]).to(learned.parts), learned.domain)
    each = []
    for whole, part, rank in zip(learned.parts, final.parts, ranks, strict=True):
        lost = float((whole - part).norm()) / (float(whole.norm()) or 1.0)
        each.append({"rank": {"kept": rank, "of": full, "relative_error": lost}})
    record = {"solver": options["solver"], "processes": problem.processes.size, "course": course}
    nll = None
    if work.held_out is not None:
        before, after = (mean_nll(work.head, work.held_out, which) for which in (None, final))
        nll = (before, after, len(work.held_out))
    return Fitted(factors, record, each, nll)
