"""What a model expects at its own rows, as sums: they need no labels, and the head reads for them.

To know the expected embedding b(h) of a token, the whole vocabulary has to be scored, while the
embedding of its target is one row of a table. So b is computed for a sample of the tokens, and a
ridge regression on h that is fitted to these stands for it at all others (`Expectation`). What the
regression misses is noise that has nothing to do with the labels: adding the sample's residuals
back makes a steer worse (experiments/one_shot).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..model import Head, expected, scatter
from .processes import ONE_PROCESS, Workers

# Of the regression, in units of the mean square of an entry of the rows.
RIDGE = 0.01
# The same, of the correction of a regression by a few tokens.
CAUTION = 0.1


@dataclass(frozen=True, eq=False)
class Expected:
    """Sums over tokens that the head has read, in float64 on the CPU, each token by its weight.

    Args:
        weight: The sum of the weights.
        moments: ``(dim + 1, dim + 1)``, of ``[h; 1] [h; 1]^T``.
        crossed: ``(dim + 1, dim)``, of ``[h; 1] b^T``.
        spread: ``(dim, dim)``, of ``E^T (diag p - p p^T) E``: the curvature of the NLL in the
            directions that a row can move.
    """

    weight: Float[Tensor, ""]
    moments: Float[Tensor, "inputs inputs"]
    crossed: Float[Tensor, "inputs dim"]
    spread: Float[Tensor, "dim dim"]

    @classmethod
    def of(
        cls, head: Head, rows: Float[Tensor, "tokens dim"], weights: Float[Tensor, " tokens"]
    ) -> Expected:
        """Let the head read some rows, which a steer may have moved."""
        reading = Reading(head)
        reading.add(rows, weights)
        return reading.finish()

    def tensors(self) -> tuple[Tensor, ...]:
        """All sums, in the order of the arguments."""
        return self.weight, self.moments, self.crossed, self.spread


class Reading:
    """`Expected`, while the head reads: its first three sums so far.

    `nll` is the sum over the tokens of the NLL of their targets, by weight, where they are given.
    """

    def __init__(self, head: Head) -> None:
        self._head, self.nll = head, 0.0
        dim = head.weight.shape[1]
        self.weight = torch.zeros((), dtype=torch.float64)
        self._mass = torch.zeros(len(head.weight), dtype=torch.float64)
        self.moments = torch.zeros(dim + 1, dim + 1, dtype=torch.float64)
        self.crossed = torch.zeros(dim + 1, dim, dtype=torch.float64)
        self._outer = torch.zeros(dim, dim, dtype=torch.float64)

    def add(
        self,
        rows: Float[Tensor, "tokens dim"],
        weights: Float[Tensor, " tokens"],
        targets: Int[Tensor, " tokens"] | None = None,
    ) -> None:
        """Let the head read some rows."""
        for part in self._head.chunks(len(rows)):
            self._add(rows[part], weights[part], None if targets is None else targets[part])

    def _add(self, rows: Tensor, weights: Tensor, targets: Tensor | None) -> None:
        mean, chance, slope = expected(self._head, rows)
        if targets is not None:
            likely = chance.gather(1, targets[:, None])[:, 0].clamp_min(1e-37)
            self.nll -= float(weights @ likely.log())
        if isinstance(slope, Tensor):
            chance *= slope**2
            mass = weights @ chance
        else:  # after the product: one pass over the scores less
            mass = (weights @ chance) * slope**2
        known = torch.cat([rows.float(), torch.ones_like(weights)[:, None]], dim=1)
        weighted = known * weights[:, None]
        self.weight += float(weights.sum())
        self._mass += mass.cpu()
        self.moments += (weighted.T @ known).cpu()
        self.crossed += (weighted.T @ mean).cpu()
        self._outer += ((mean * weights[:, None]).T @ mean).cpu()

    def finish(self, workers: Workers = ONE_PROCESS) -> Expected:
        """The sums over all that was read, by all processes."""
        sums = self.weight, self.moments, self.crossed, self._outer, self._mass
        workers.add(*sums)
        if not self.weight:
            return Expected(self.weight, self.moments, self.crossed, self._outer)
        table = self._head.weight
        spread = scatter(self._head, self._mass.to(table.device, torch.float32)).cpu().double()
        return Expected(self.weight, self.moments, self.crossed, spread - self._outer)


@dataclass(frozen=True, eq=False)
class Expectation:
    """A ridge regression of the expected embedding on the row that the head reads.

    Args:
        slope: B, ``(dim, dim)``.
        offset: c, ``(dim,)``.
        curvature: ``(dim, dim)``, the mean of ``E^T (diag p - p p^T) E``.
    """

    slope: Float[Tensor, "dim dim"]
    offset: Float[Tensor, " dim"]
    curvature: Float[Tensor, "dim dim"]

    @classmethod
    def of(cls, sums: Expected) -> Expectation:
        """Fit it, in float64 on the CPU."""
        moments, crossed = sums.moments / sums.weight, sums.crossed / sums.weight
        moments.diagonal()[:-1] += moments.diagonal()[:-1].mean() * RIDGE
        found = torch.linalg.solve(moments, crossed)
        return cls(found[:-1], found[-1], sums.spread / sums.weight)

    def corrected(self, few: Reading) -> Expectation:
        """The same, drawn to what the head has read of a few tokens, as far as these can tell."""
        moments, crossed = few.moments / few.weight, few.crossed / few.weight
        known = torch.cat([self.slope, self.offset[None]])
        missed = crossed - moments @ known
        moments.diagonal()[:-1] += moments.diagonal()[:-1].mean() * CAUTION
        found = known + torch.linalg.solve(moments, missed)
        return Expectation(found[:-1], found[-1], self.curvature)
