"""Linear maps between the spaces of two models, in closed form.

``e_source ~ H e_target`` over shared words, ``c_source ~ G c_target`` over the same places of one
text (Han et al. 2024, section 3.5, which takes G = H). Everything is computed in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

MapMethod = Literal["ridge", "procrustes", "whitened"]
HELD_OUT = 5
"""Every so manieth row is left out of the fits by which the ridge is chosen."""
RIDGES = tuple(10.0**k for k in range(-6, 1))


@dataclass(frozen=True, eq=False)
class FittedMap:
    """A map from rows of one space to rows of another, and how good it is.

    Args:
        matrix: The map, ``(inputs, outputs)``: ``outputs ~ inputs @ matrix``.
        explained: The share of the held-out variance that it explains, at most 1; about 0 for a map
            that says nothing.
        ridge: The ridge, in units of the mean eigenvalue of the inputs; 0 for Procrustes.
        condition: The condition number of the weighted covariance of the inputs.
        rows: The number of rows that it was fitted on.
    """

    matrix: Float[Tensor, "inputs outputs"]
    explained: float
    ridge: float
    condition: float
    rows: int

    def facts(self) -> dict[str, float]:
        """The figures of the fit, for the record of a steer."""
        return {
            "rows": self.rows,
            "explained": self.explained,
            "ridge": self.ridge,
            "condition": self.condition,
        }


def fit_map(
    inputs: Float[Tensor, "rows inputs"],
    outputs: Float[Tensor, "rows outputs"],
    weights: Float[Tensor, " rows"] | None = None,
    *,
    method: MapMethod = "ridge",
    centred: bool = True,
) -> FittedMap:
    """The linear map that takes `inputs` to `outputs`.

    Args:
        inputs: The inputs, one row per observation.
        outputs: The outputs of the same observations.
        weights: How much each observation counts; by default all count the same.
        method: ``"ridge"`` is least squares with a ridge chosen on held-out rows;
            ``"procrustes"`` is a scaled (semi-)orthogonal map; ``"whitened"`` is an orthogonal map
            between the whitened spaces.
        centred: Whether the weighted means are subtracted first. They are for embeddings at the
            output site, where adding one vector to all of them changes no probability.
    """
    x, y = inputs.double(), outputs.double()
    w = torch.ones(len(x), dtype=torch.float64, device=x.device)
    if weights is not None:
        w = weights.double().to(x.device)
    w = w / w.mean()
    if centred:
        x = x - (w[:, None] * x).mean(0)
        y = y - (w[:, None] * y).mean(0)
    tested = torch.arange(len(x), device=x.device) % HELD_OUT == 0
    ridges = RIDGES if method == "ridge" else (0.0,)
    scores = {}
    for ridge in ridges:
        part = _solve(x[~tested], y[~tested], w[~tested], method, ridge)
        scores[ridge] = _explained(x[tested] @ part, y[tested], w[tested])
    best = max(scores, key=lambda ridge: scores[ridge])
    eigenvalues = torch.linalg.eigvalsh(x.T @ (w[:, None] * x))
    return FittedMap(
        _solve(x, y, w, method, best),
        scores[best],
        best,
        float(eigenvalues[-1] / eigenvalues[0].clamp_min(1e-300)),
        len(x),
    )


def _solve(x: Tensor, y: Tensor, w: Tensor, method: MapMethod, ridge: float) -> Tensor:
    cross = x.T @ (w[:, None] * y)
    if method == "ridge":
        gram = x.T @ (w[:, None] * x)
        gram.diagonal().add_(ridge * gram.diagonal().mean())
        return torch.cholesky_solve(cross, torch.linalg.cholesky(gram))
    if method == "procrustes":
        left, scale, right_t = torch.linalg.svd(cross, full_matrices=False)
        norm = (w[:, None] * x * x).sum()
        turned: Tensor = (left @ right_t) * (scale.sum() / norm)
        return turned
    _, back_x = _roots(x.T @ (w[:, None] * x))
    root_y, back_y = _roots(y.T @ (w[:, None] * y))
    left, _, right_t = torch.linalg.svd(back_x @ cross @ back_y, full_matrices=False)
    between: Tensor = back_x @ left @ right_t @ root_y
    return between


def _roots(gram: Tensor) -> tuple[Tensor, Tensor]:
    """The square root of a covariance, and its (ridged) inverse."""
    values, vectors = torch.linalg.eigh(gram)
    floor = float(values[-1]) * 1e-6
    root = values.clamp_min(floor).sqrt()
    return (vectors * root) @ vectors.T, (vectors / root) @ vectors.T


def _explained(guess: Tensor, truth: Tensor, w: Tensor) -> float:
    total = (w[:, None] * truth.square()).sum()
    return float(1 - (w[:, None] * (truth - guess).square()).sum() / total.clamp_min(1e-300))
