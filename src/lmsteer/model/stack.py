"""Several steers as one pair of factors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import MismatchError
from ..steer import Steer


@dataclass(frozen=True, eq=False)
class Stack:
    """Several steers side by side: (h @ P * strength) @ Q.T, or h @ dense."""

    P: Float[Tensor, "dim rank"]
    Q: Float[Tensor, "dim rank"]
    rows: Float[Tensor, "rows rank"] | None
    dense: Float[Tensor, "dim dim"] | None


def stack(wanted: Mapping[Steer, float | Tensor]) -> Stack:
    """The factors of several steers and their strengths, side by side.

    Raises:
        MismatchError: The tensors of strengths have different numbers of rows.
    """
    P = torch.cat([steer.P for steer in wanted], dim=1)
    Q = torch.cat([steer.Q for steer in wanted], dim=1)
    varying = [s for s in wanted.values() if isinstance(s, Tensor)]
    if not varying:
        Q = torch.cat([steer.Q * float(s) for steer, s in wanted.items()], dim=1)
        # Above half of the full rank, one square product is cheaper than two thin ones.
        dense = P @ Q.T if 2 * P.shape[1] > P.shape[0] else None
        return Stack(P, Q, None, dense)
    count = len(varying[0])
    if any(len(s) != count for s in varying):
        sizes = {steer.name: len(s) for steer, s in wanted.items() if isinstance(s, Tensor)}
        raise MismatchError(f"every tensor of strengths must have one value per row; got {sizes}")
    columns = [
        (s.cpu() if isinstance(s, Tensor) else torch.full((count,), s))[:, None].expand(
            count, steer.rank
        )
        for steer, s in wanted.items()
    ]
    return Stack(P, Q, torch.cat(columns, dim=1), None)
