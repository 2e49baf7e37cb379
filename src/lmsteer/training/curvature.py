"""The curvature of the objective at W = 0, as two small matrices.

The loss is convex in the stacked map M = [W_1; W_2; ...; D] (styles over domain). Its Hessian is
the mean of ``x x^T (x) S`` over tokens, with ``x = [y_1 h; y_2 h; ...; h]`` and
``S = E^T (diag p - p p^T) E`` for the head's rows E and the token's probabilities p. Near W = 0
that is close to ``A (x) B``, the product of the two means, which are sums over tokens from one
pass. Under a soft-cap S is the Gauss-Newton matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..model import Head, expected, scatter
from ..states import States

# The number of rows that the curvature is estimated from: enough for dims in the thousands, and a
# small part of a pass over a large corpus.
MOST_TOKENS = 16384


@dataclass(frozen=True, eq=False)
class Curvature:
    """``A (x) B`` in its eigenbasis.

    Args:
        left: The eigenvectors of A, ``(inputs, inputs)``; the number of inputs is dim per style,
            and dim for the domain.
        left_values: The eigenvalues of A, ascending, at least 0.
        right: The eigenvectors of B, ``(dim, dim)``.
        right_values: The eigenvalues of B, ascending, at least 0.
    """

    left: Float[Tensor, "inputs inputs"]
    left_values: Float[Tensor, " inputs"]
    right: Float[Tensor, "dim dim"]
    right_values: Float[Tensor, " dim"]

    @classmethod
    def of(cls, left: Tensor, right: Tensor) -> Curvature:
        """``left (x) right``, two symmetric matrices without negative eigenvalues."""
        left_values, left = _eigen(left)
        right_values, right = _eigen(right)
        return cls(left, left_values, right, right_values)

    @property
    def mean(self) -> float:
        """The mean eigenvalue of the product: the unit of the damping and of the ridge."""
        return float(self.left_values.mean() * self.right_values.mean())

    def block(self, part: int) -> tuple[Tensor, Tensor]:
        """The square roots of the curvature of a part's rows (the domain is last) and columns."""
        dim = len(self.right_values)
        columns = _root(self.right_values, self.right)
        if len(self.left_values) == dim:
            return _root(self.left_values, self.left), columns
        rows = slice(part * dim, (part + 1) * dim)
        weighed = self.left[rows] * self.left_values
        return _root(*_eigen(weighed @ self.left[rows].T)), columns

    def damped_inverse(self, damping: float) -> DampedInverse:
        """What applies ``(A (x) B + damping * mean)^-1``."""
        scale = self.left_values[:, None] * self.right_values[None] + damping * self.mean
        return DampedInverse(self, scale)


@dataclass(frozen=True, eq=False)
class DampedInverse:
    """The inverse of a curvature, damped so that it exists."""

    curvature: Curvature
    scale: Float[Tensor, "inputs dim"]

    def __call__(self, gradient: Float[Tensor, "parts dim dim"]) -> Float[Tensor, "parts dim dim"]:
        """The step that the quadratic model asks for."""
        left, right = self.curvature.left, self.curvature.right
        step = left @ ((left.T @ gradient.flatten(0, 1) @ right) / self.scale) @ right.T
        return step.view_as(gradient)


def _root(values: Tensor, vectors: Tensor) -> Tensor:
    # Directions in which no token varies have no weight, but the root must be invertible.
    values = values.clamp_min(1e-6 * float(values[-1])).sqrt()
    return (vectors * values) @ vectors.T


@dataclass(frozen=True, eq=False)
class Directions:
    """A matrix split into directions in order of what they do to the loss, not of their size.

    They are the singular directions of ``L W R``, where L and R are the roots of the curvature of
    W's rows and columns. Leaving out the last ones raises the loss least (to second order); with
    the plain SVD it would change the Frobenius norm least.
    """

    left: Float[Tensor, "dim dim"]
    right: Float[Tensor, "dim dim"]

    @classmethod
    def of(cls, matrix: Float[Tensor, "dim dim"], curvature: Curvature, part: int) -> Directions:
        """Split a matrix, the part of the map with the given number."""
        rows, columns = (root.double().cpu() for root in curvature.block(part))
        u, size, v = torch.linalg.svd(rows @ matrix.double().cpu() @ columns)
        left = torch.linalg.solve(rows, u * size)
        right = torch.linalg.solve(columns, v.T)
        return cls(left.to(matrix.dtype), right.to(matrix.dtype))

    def factors(self, rank: int) -> tuple[Tensor, Tensor]:
        """P and Q, ``(dim, rank)``, of the leading directions, with columns of equal norm."""
        P, Q = self.left[:, :rank], self.right[:, :rank]
        balance = (Q.norm(dim=0) / P.norm(dim=0).clamp_min(1e-30)).sqrt()
        return P * balance, Q / balance.clamp_min(1e-30)

    def matrix(self, rank: int) -> Float[Tensor, "dim dim"]:
        """The sum of the leading directions."""
        return self.left[:, :rank] @ self.right[:, :rank].T


def inputs_of(states: States, *, domain: bool) -> Float[Tensor, "held inputs"]:
    """``[y_1 h; y_2 h; ...; h]`` of each token (without the last where there is no domain)."""
    values = states.values(domain=domain)
    return (values[:, :, None] * states.hidden.float()[:, None]).flatten(1)


@torch.no_grad()
def curvature_of(head: Head, states: States, *, domain: bool) -> Curvature:
    """The curvature at W = 0, estimated from training tokens that are evenly spread over all."""
    states = states.spread(MOST_TOKENS)
    dim, parts = states.hidden.shape[1], states.labels.shape[1] + domain
    left, outer = (torch.zeros(n, n, device=states.device) for n in (parts * dim, dim))
    mass, weight = (torch.zeros(n, device=states.device) for n in (len(head.weight), 1))
    for block in states.blocks():
        inputs = inputs_of(block, domain=domain)
        left += (inputs * block.weights[:, None]).T @ inputs
        for part in head.chunks(len(block.hidden)):
            mean, chance, slope = expected(head, block.hidden[part])
            outer += (mean * block.weights[part, None]).T @ mean
            mass += block.weights[part] @ (chance * slope**2)
        weight += block.weights.sum()
    states.workers.add(left, outer, mass, weight)
    return Curvature.of(left / weight, (scatter(head, mass) - outer) / weight)


def _eigen(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The eigenvalues (none below 0) and eigenvectors of a symmetric matrix, found in float64."""
    values, vectors = torch.linalg.eigh(matrix.cpu().double())
    return values.clamp_min(0).to(matrix), vectors.to(matrix)
