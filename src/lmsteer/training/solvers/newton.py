"""The default solver: damped Newton steps for which the head reads a sample of the tokens.

At a map M the mean NLL has the gradient ``-mean y h (e_x - b(h'))^T``: h is a token's row, h' the
row as M steers it, y the label of its text, e_x the embedding of the target, b the embedding that
the model expects. Only b needs the scores of the whole vocabulary, and a regression on h' stands
for it (`Expectation`). So the head reads a sample of the tokens, and the others cost the trunk and
a few products of ``dim x dim``.

The style is one step from the base model, with the labels centred: what all texts share would
otherwise enter as far as the labels do not cancel. Its ridge and its rank are those that separate
the labels of held-out texts most for what they move the model (`Separation`). Its length is a
convention: strength 1 moves the model by the same distance at a typical token (`UNIT`), so that
equal strengths of any two steers cost about the same. The domain part takes several steps, since
texts lie further from the base model than their labels separate them; how far each goes is decided
on held-out text.
"""

from __future__ import annotations

import torch

from ..objective import Map, mean_nll
from .choosing import Work, choose
from .domain import learn_domain, steps_for
from .problem import Fitted, Problem


def fit_newton(problem: Problem) -> Fitted:
    """Learn each style in one step, then the domain in several.

    Where nothing is held out, the ridge is the prior's, all directions are kept, and the steps of
    the domain part are of a fixed length.
    """
    options = problem.options
    states, held_out = problem.read()
    work = Work(problem.working_head(), states, held_out)
    learned = Map.zeros(states, domain=options["domain"])
    steps = options["steps"] or steps_for(len(states))
    steps = steps if options["domain"] else 0

    def tell(done: int) -> None:
        if options["progress"]:
            options["progress"]("fit", done, steps + 2)

    outlook = work.outlook(learned)
    tell(1)
    factors, course = choose(work, learned, outlook, options["ridge"], options["rank"])
    tell(2)
    if steps:
        domain, course["domain_nll"] = learn_domain(
            work, learned, outlook, steps, options["rank"], lambda number: tell(3 + number)
        )
        factors = [*factors, domain]
        tell(steps + 2)
    full = learned.parts.shape[1]
    final = Map(torch.stack([P @ Q.T for P, Q in factors]).to(learned.parts), learned.domain)
    nll = None
    if held_out is not None:
        before, after = (mean_nll(work.head, held_out, which) for which in (None, final))
        nll = (before, after, len(held_out))
    record = {"solver": options["solver"], "processes": problem.processes.size, "course": course}
    each = [{"rank": {"kept": P.shape[1], "of": full}} for P, _ in factors]
    return Fitted(factors, record, each, nll)
