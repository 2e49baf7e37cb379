"""Several steers as one pair of factors, and the positions of a forward call that they change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..errors import MismatchError
from ..steer import Site, Steer
from .reading import cache_name

Where = Literal["all", "prompt", "response"] | Bool[Tensor, "rows seq"]


@dataclass(frozen=True, eq=False)
class Stack:
    """Several steers side by side: (h @ P * strength) @ Q.T, or h @ dense."""

    P: Float[Tensor, "dim rank"]
    Q: Float[Tensor, "dim rank"]
    rows: Float[Tensor, "rows rank"] | None
    dense: Float[Tensor, "dim dim"] | None


def stack(wanted: Mapping[Steer, float | Tensor]) -> Stack:
    """The factors of steers and their strengths, in one.

    Raises:
        MismatchError: Tensors of strengths with different numbers of rows.
    """
    P = torch.cat([steer.P for steer in wanted], dim=1)
    Q = torch.cat([steer.Q for steer in wanted], dim=1)
    varying = [s for s in wanted.values() if isinstance(s, Tensor)]
    if not varying:
        Q = torch.cat([steer.Q * float(s) for steer, s in wanted.items()], dim=1)
        # Past half of full rank one square product is cheaper than two thin ones.
        dense = P @ Q.T if 2 * P.shape[1] > P.shape[0] else None
        return Stack(P, Q, None, dense)
    count = len(varying[0])
    if any(len(s) != count for s in varying):
        sizes = {steer.name: len(s) for steer, s in wanted.items() if isinstance(s, Tensor)}
        raise MismatchError(f"every tensor of strengths must have one value a row; got {sizes}")
    columns = [
        (s.cpu() if isinstance(s, Tensor) else torch.full((count,), s))[:, None].expand(
            count, steer.rank
        )
        for steer, s in wanted.items()
    ]
    return Stack(P, Q, torch.cat(columns, dim=1), None)


class Progress:
    """Knows, within one forward call, which positions are prompt and which are response."""

    def __init__(self, model: nn.Module, where: Where) -> None:
        self.where = where
        self.cache = cache_name(model)
        self.reading_prompt = True

    def watch(self, model: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        """A forward pre-hook: an empty cache means that a prompt is read."""
        cache = kwargs.get(self.cache)
        self.reading_prompt = cache is None or cache.get_seq_length() == 0

    def mask(self, site: Site, length: int, batch: int) -> Tensor | bool:
        """True, False, or a mask (1 or batch, length, 1) of the positions to steer."""
        if isinstance(self.where, Tensor):
            if tuple(self.where.shape) != (batch, length):
                raise MismatchError(
                    f"the mask given as where= has shape {tuple(self.where.shape)}, "
                    f"but the batch has (rows, seq) = {(batch, length)}"
                )
            return self.where[..., None]
        if self.where == "all":
            return True
        wants_prompt = self.where == "prompt"
        if not self.reading_prompt:
            return not wants_prompt
        if site == "input":
            return wants_prompt
        first_response = torch.arange(length)[None, :, None] == length - 1
        return ~first_response if wants_prompt else first_response
