"""The downhill slope and the curvature at the base model, from sums alone.

At the base model the mean NLL has the gradient ``-mean v h (e_x - b(h))^T`` by a part of the map
that has the strength v on a token: h is the token's row, e_x the embedding of its target, b the
embedding that the model expects, for which a linear function of h stands (`states.Expectation`).
So everything is a product of small matrices with the sums of `states.Statistics`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..states import Expectation, Statistics


@dataclass(frozen=True, eq=False)
class Values:
    """The strength of each part of the map on a token, as a linear function of its labels.

    Args:
        of: ``(parts, 1 + styles)``: the strengths are ``of @ [1, y_1, y_2, ...]``.
    """

    of: Float[Tensor, "parts z"]

    @classmethod
    def centred(cls, sums: Statistics) -> Values:
        """Each style at its label less the mean label, by the weights of the tokens.

        What all texts share would otherwise enter as far as the labels do not cancel.
        """
        mean = sums.weight[0, 1:] / sums.weight[0, 0]
        return cls(torch.cat([-mean[:, None], torch.eye(len(mean)).double()], dim=1))

    @classmethod
    def constant(cls, sums: Statistics) -> Values:
        """One part at strength 1 everywhere: the domain."""
        return cls(torch.eye(1, 1 + sums.styles).double())

    def rows(self, sums: Statistics) -> Float[Tensor, "parts dim"]:
        """The mean of v h for each part."""
        return self.of @ sums.rows / sums.weight[0, 0]

    def pull(self, sums: Statistics) -> Float[Tensor, "parts dim dim"]:
        """The mean of ``v h e_x^T`` for each part."""
        return torch.einsum("kz,zij->kij", self.of, sums.pull) / sums.weight[0, 0]

    def outer(self, sums: Statistics) -> Float[Tensor, "parts dim dim"]:
        """The mean of ``v h h^T`` for each part."""
        with_one = sums.inner[: 1 + sums.styles]
        return torch.einsum("kz,zij->kij", self.of, with_one) / sums.weight[0, 0]

    def inner(self, sums: Statistics) -> Float[Tensor, "inputs inputs"]:
        """The mean of ``[v_1 h; v_2 h; ...] [...]^T``."""
        parts, z = self.of.shape
        dim = sums.dim
        whole = torch.empty(z, z, dim, dim, dtype=torch.float64)
        first, second = torch.triu_indices(z, z)
        whole[first, second] = whole[second, first] = sums.inner
        found = torch.einsum("ki,lj,ijab->kalb", self.of, self.of, whole)
        return found.reshape(parts * dim, parts * dim) / sums.weight[0, 0]


def downhill(
    sums: Statistics,
    values: Values,
    outlook: Expectation,
    moved: Float[Tensor, "dim dim"] | None = None,
) -> Float[Tensor, "parts dim dim"]:
    """The negative gradient of the mean NLL by each part of the map.

    Args:
        sums: The tokens.
        values: The strength of each part.
        outlook: What the model expects at the rows, moved as they are.
        moved: What has moved every row h to ``h + h @ moved``; None: nothing. Under a soft-cap the
            slope of a target's score stays that of the unmoved row.
    """
    outer = values.outer(sums)
    if moved is not None:
        outer = outer + outer @ moved
    expected = outer @ outlook.slope + values.rows(sums)[:, :, None] * outlook.offset
    return values.pull(sums) - expected
