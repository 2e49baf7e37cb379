"""SWB, one learned offset per word whatever the context: its floor against that of a W.

The soft word blacklist (a baseline of Han et al. 2024) adds a vector to the scores. Its best is
computed by convex optimisation, as is the best W of the linear model; both are measured on the same
exact probabilities. An offset can say a word more often, but not say it elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64

from ...states import Progress
from .checks import Check, Part, TableRow, column, counted, medians
from .contexts import Contexts
from .exact import SEEDS
from .families import StyleShift, random_shift, ring_shift
from .fitting import fit_scores, mean_kl
from .hmm import Array
from .linear import linear_kl

LENGTH = 6
FITTED_ON = 4
"""Words in the texts that W is fitted on; it is measured on longer ones."""
FAMILIES: dict[str, tuple[Callable[[int], StyleShift], int]] = {
    "random": (random_shift, LENGTH),
    "equal marginals": (ring_shift, LENGTH),
    "one word": (random_shift, 1),
}
BEST = "KL from π′, nats per word"
_STEPS = 2000
_ROUNDING = 1e-15  # of a KL; nothing is divided by less


def best_offset(shift: StyleShift, contexts: Contexts) -> tuple[Float64[Array, " vocab"], float]:
    """The offset with the least KL from the language under pi', and that KL in nats per word."""
    base = np.log(contexts.chances(shift.base))
    truth, weights = contexts.chances(shift.steered), contexts.weights(shift.steered)
    found = fit_scores(base, np.ones((len(base), 1)), np.eye(base.shape[1]), truth, weights)
    return found.matrix[0], found.kl


def fit_linear(shift: StyleShift, contexts: Contexts) -> Float64[Array, "states states"]:
    """A W of the linear model, fitted on the exact chances of all texts of these contexts.

    The chance of a text is linear in M = I + W: with a the belief times the chance of the context,
    it is ``a . (M e_v)``. So the likelihood of the unnormalised chances is concave in M, and its
    best is found from M = I with all entries kept at 0 or above (scipy's L-BFGS-B).
    """
    from scipy.optimize import minimize

    base, truth = shift.base, shift.steered
    before = contexts.weights(base)[:, None] * contexts.beliefs(base)
    wanted = contexts.weights(truth)[:, None] * contexts.chances(truth)
    size = before.shape[1]
    # Directions that are met more often are steeper: even them out.
    scale = 1 / np.sqrt(np.outer(before.sum(0), base.emissions.sum(1)))
    total = np.outer(before.sum(0), base.emissions.sum(1))

    def value(flat: Array) -> tuple[float, Array]:
        M = flat.reshape(size, size) * scale
        scores = np.maximum(before @ M @ base.emissions, 1e-300)
        slope = total - before.T @ (wanted / scores) @ base.emissions.T
        loss = float((total * M).sum() - (wanted * np.log(scores)).sum())
        return loss, (slope * scale).ravel()

    found = minimize(
        value,
        (np.eye(size) / scale).ravel(),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * size**2,
        options={"maxiter": _STEPS, "maxfun": 2 * _STEPS, "ftol": 1e-15, "gtol": 1e-10},
    )
    return np.asarray(found.x.reshape(size, size) * scale - np.eye(size))


def check_swb(seed: int = 0, *, seeds: int = SEEDS, progress: Progress | None = None) -> Part:
    """Best offset and fitted W over three families of languages.

    Args:
        seed: The seed of the first language; the next languages have the next seeds.
        seeds: The number of languages of each family.
        progress: Called as ``progress("swb", done, total)``.
    """
    numbered = [(family, number) for family in FAMILIES for number in range(seed, seed + seeds)]
    rows = [_row(family, number) for family, number in counted(numbered, "swb", progress)]

    equal, alone = (
        [row for row in rows if row["family"] == family]
        for family in ("equal marginals", "one word")
    )
    offset, best = column(equal, "offset"), np.maximum(column(equal, "map"), _ROUNDING)
    removed = 1 - offset / column(equal, "unsteered")
    checks = [
        Check(
            "equal marginals: KL of the best offset over that of W, smallest",
            (offset / best).min(),
            ">",
            10,
        ),
        Check(
            "equal marginals: share of the KL that an offset removes, largest",
            np.abs(removed).max(),
            "<",
            1e-9,
        ),
        Check(
            "texts of one word: KL of the best offset, largest",
            column(alone, "offset").max(),
            "<",
            1e-12,
        ),
    ]
    return Part(
        "swb",
        "A static offset (SWB) is exact for texts of one word, helps where styles differ in how "
        "often they say a word, and does nothing where they differ only in the order. A W fitted "
        "in the linear model reaches the truth in all three.",
        checks,
        medians(rows, "family", ("unsteered", "offset", "map")),
        {BEST: rows},
    )


def _row(family: str, seed: int) -> TableRow:
    make, length = FAMILIES[family]
    shift = make(seed)
    contexts = Contexts.of(shift.base.vocab, length)
    truth, weights = contexts.chances(shift.steered), contexts.weights(shift.steered)
    W = fit_linear(shift, Contexts.of(shift.base.vocab, min(length, FITTED_ON)))
    return {
        "family": family,
        "seed": seed,
        "unsteered": mean_kl(weights, truth, np.log(contexts.chances(shift.base))),
        "offset": best_offset(shift, contexts)[1],
        "map": linear_kl(shift.base, shift.steered, W, contexts),
    }
