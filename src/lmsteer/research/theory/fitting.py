"""The best map, or the best static offset, on exact probabilities: one convex problem.

Scores ``base + x B E^T`` are linear in B, so the mean KL from the truth is convex in it. The map of
a softmax head has x = hidden rows and E = word embeddings; a static offset has x = 1 and E = I.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from .hmm import Array

_STEPS = 300
_GRADIENT = 1e-8  # the KL is about its square from the least, which rounding does not show
# Directions that hold less than this of the largest are rounding.
_NEGLIGIBLE = 1e-9


@dataclass(frozen=True, eq=False)
class ScoreFit:
    """A minimum.

    Args:
        matrix: ``(inputs, dim)``, B; of the many that score alike, the one without parts that
            change nothing.
        kl: The mean KL from the truth at this minimum, in nats: the floor.
    """

    matrix: Float64[Array, "inputs dim"]
    kl: float


def log_softmax(scores: Float64[Array, "contexts vocab"]) -> Float64[Array, "contexts vocab"]:
    """Log-probabilities from scores."""
    from scipy.special import log_softmax as of

    return np.asarray(of(scores, axis=1))


def mean_kl(
    weights: Float64[Array, " contexts"],
    truth: Float64[Array, "contexts vocab"],
    log_chance: Float64[Array, "contexts vocab"],
) -> float:
    """Mean over contexts of KL(truth || model) in nats, at least 0 whatever rounding says.

    Words of chance 0 count nothing.
    """
    return max(0.0, _signed_kl(weights, truth, log_chance))


def _signed_kl(weights: Array, truth: Array, log_chance: Array) -> float:
    from scipy.special import xlogy

    return float(weights @ (xlogy(truth, truth) - truth * log_chance).sum(1))


def fit_scores(
    base: Float64[Array, "contexts vocab"],
    inputs: Float64[Array, "contexts inputs"],
    table: Float64[Array, "vocab dim"],
    truth: Float64[Array, "contexts vocab"],
    weights: Float64[Array, " contexts"],
) -> ScoreFit:
    """Minimise the mean KL of ``softmax(base + inputs @ B @ table.T)`` from the truth over B.

    By Newton steps in a trust region (scipy's ``trust-exact``), from B = 0, in coordinates in which
    inputs and table are orthonormal: directions that make no difference are left out, and the rest
    is well conditioned.

    Args:
        base: The scores before the change.
        inputs: The row that B reads in each context.
        table: The embeddings that B writes to, one row per word.
        truth: The distribution wanted in each context.
        weights: The weights of the contexts; they sum to 1.
    """
    from scipy.optimize import minimize

    reads, to_inputs = _orthonormal(np.sqrt(weights)[:, None] * inputs)
    reads = reads / np.sqrt(weights)[:, None]
    writes, to_table = _orthonormal(table - table.mean(0))  # an equal score for all words is none
    shape = (reads.shape[1], writes.shape[1])

    def chances(flat: Array) -> Array:
        return log_softmax(base + reads @ flat.reshape(shape) @ writes.T)

    def value(flat: Array) -> tuple[float, Array]:
        log_chance = chances(flat)
        slope = weights[:, None] * (np.exp(log_chance) - truth)
        return _signed_kl(weights, truth, log_chance), (reads.T @ slope @ writes).ravel()

    def curvature(flat: Array) -> Array:
        chance = np.exp(chances(flat))
        seen = chance @ writes
        spread = (
            np.einsum("cv,vi,vj->cij", chance, writes, writes) - seen[:, :, None] * seen[:, None]
        )
        pairs = np.einsum("c,ci,cj->cij", weights, reads, reads)
        whole = np.tensordot(pairs, spread, (0, 0))
        return np.asarray(whole.transpose(0, 2, 1, 3).reshape(flat.size, flat.size))

    found = minimize(
        value,
        np.zeros(shape[0] * shape[1]),
        jac=True,
        hess=curvature,
        method="trust-exact",
        options={"gtol": _GRADIENT, "maxiter": _STEPS, "max_trust_radius": 1e6},
    )
    return ScoreFit(to_inputs @ found.x.reshape(shape) @ to_table.T, max(0.0, float(found.fun)))


def _orthonormal(rows: Array) -> tuple[Array, Array]:
    """Orthonormal columns q and the matrix t with ``rows @ t = q``, without negligible ones."""
    left, scale, right_t = np.linalg.svd(rows, full_matrices=False)
    kept = scale > _NEGLIGIBLE * scale[0]
    return left[:, kept], right_t[kept].T / scale[kept]
