"""What the model expects of the head at a row, as a linear function of the row.

The slope of a target's NLL by its row h is ``b(h) - e_x``: e_x is the embedding of the target x,
and ``b(h)`` the expected embedding under the model, the sum of ``p(v | h) e_v`` over the
vocabulary (each with the slope of the head's scale and soft-cap). To know b, the whole vocabulary
has to be scored; e_x is one row of a table. So b is computed for a sample of the tokens, and
``b(h) ~ h B + c`` is fitted to it by ridge regression. In sums over all tokens the targets then
enter exactly, and only the expectation is approximate. What the regression misses is noise that
has nothing to do with the labels: adding the sample's residuals back makes a steer worse
(experiments/one_shot).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..model import Head
from ..states import States

# Of the regression, in units of the mean square of an entry of the rows.
RIDGE = 0.01
_ROWS = 8192  # rows of the vocabulary that are handled at once


@dataclass(frozen=True, eq=False)
class Expectation:
    """A ridge regression of the expected embedding on the row that the head reads.

    Args:
        slope: B, ``(dim, dim)``.
        offset: c, ``(dim,)``.
        curvature: The mean over the sample of ``E^T (diag p - p p^T) E``, ``(dim, dim)``: the
            curvature of the NLL in the directions that a row can move.
    """

    slope: Float[Tensor, "dim dim"]
    offset: Float[Tensor, " dim"]
    curvature: Float[Tensor, "dim dim"]

    @classmethod
    def of(cls, head: Head, sample: States, rows: Float[Tensor, "held dim"]) -> Expectation:
        """Fit it on tokens whose rows may have been moved by a steer.

        Args:
            head: The head of the model.
            sample: The tokens, for their weights and the processes that share them.
            rows: The rows of these tokens, as the head reads them.
        """
        dim, device = rows.shape[1], sample.device
        moments = torch.zeros(dim + 1, dim + 1, device=device)
        crossed = torch.zeros(dim + 1, dim, device=device)
        outer = torch.zeros(dim, dim, device=device)
        mass, weight = (torch.zeros(n, device=device) for n in (len(head.weight), 1))
        for part in head.chunks(len(rows)):
            weights = sample.weights[part, None]
            mean, chance, slope = expected(head, rows[part])
            if isinstance(slope, Tensor):
                chance *= slope**2
                mass += sample.weights[part] @ chance
            else:  # after the product: one pass over the scores less
                mass += (sample.weights[part] @ chance) * slope**2
            known = torch.cat([rows[part].float(), torch.ones_like(weights)], dim=1)
            moments += (known * weights).T @ known
            crossed += (known * weights).T @ mean
            outer += (mean * weights).T @ mean
            weight += weights.sum()
        sample.workers.add(moments, crossed, outer, mass, weight)
        # On the CPU: not every device has float64.
        moments, crossed = (sums.div(weight).cpu().double() for sums in (moments, crossed))
        moments.diagonal()[:-1] += moments.diagonal()[:-1].mean() * RIDGE
        found = torch.linalg.solve(moments, crossed).float().to(device)
        return cls(found[:-1], found[-1], (scatter(head, mass) - outer) / weight)

    def __call__(self, rows: Float[Tensor, "tokens dim"]) -> Float[Tensor, "tokens dim"]:
        """The expected embedding at each row."""
        return torch.addmm(self.offset, rows, self.slope)


def expected(
    head: Head, rows: Float[Tensor, "tokens dim"]
) -> tuple[Float[Tensor, "tokens dim"], Float[Tensor, "tokens vocab"], Tensor | float]:
    """The expected embedding at each row, exactly.

    Returns:
        The mean of the embeddings, each times the slope of the head's scale and soft-cap; the
        probabilities of the words; and those slopes: a number where there is no soft-cap.
    """
    table = head.weight
    scores = head.logits(rows.to(table.dtype)).float()
    if head.softcap is None:
        chance = scores.softmax(-1)
        return (chance.to(table.dtype) @ table).float() * head.scale, chance, head.scale
    slope = head.scale * (1.0 - (scores / head.softcap).square())
    chance = scores.softmax(-1)
    return ((chance * slope).to(table.dtype) @ table).float(), chance, slope


def scatter(head: Head, mass: Float[Tensor, " vocab"]) -> Float[Tensor, "dim dim"]:
    """The sum of ``mass_v e_v e_v^T`` over the vocabulary."""
    dim = head.weight.shape[1]
    total = torch.zeros(dim, dim, device=mass.device)
    for start in range(0, len(head.weight), _ROWS):
        table, share = head.weight[start : start + _ROWS].float(), mass[start : start + _ROWS]
        total += (table * share[:, None]).T @ table
    return total


def pulled_to(
    head: Head, rows: Float[Tensor, "tokens dim"], targets: Tensor
) -> Float[Tensor, "tokens dim"]:
    """The embedding of each target, with the slope of the head's scale and soft-cap there."""
    found = head.weight[targets].float()
    if head.softcap is None:
        return found * head.scale if head.scale != 1.0 else found
    bias = 0.0 if head.bias is None else head.bias[targets].float()
    scores = ((rows.float() * found).sum(-1) + bias) * head.scale
    cap = torch.tanh(scores / head.softcap)
    return found * (head.scale * (1.0 - cap.square()))[:, None]
