"""A strength for each row of an engine's running batch, and the change it makes of hidden rows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import UnsupportedError
from ..steer import Steer


class Rows:
    """The strengths of the requests in a batch that changes from step to step.

    Args:
        steers: Those that requests may name, of the output site.
        most: The largest number of requests in a batch.
        device: Where hidden states are.

    Raises:
        UnsupportedError: A steer of the input site.
    """

    def __init__(self, steers: Mapping[str, Steer], most: int, device: torch.device) -> None:
        for name, steer in steers.items():
            if steer.site != "output":
                raise UnsupportedError(
                    f"steer {name!r} acts on the input embeddings, which changes what the cache "
                    "holds; engines serve steers of the output site. For this one write a model "
                    "at fixed strengths with lmsteer export folder"
                )
        self.number = {name: number for number, name in enumerate(steers)}
        self.P = torch.cat([steer.P for steer in steers.values()], dim=1).to(device)
        self.Q_t = torch.cat([steer.Q for steer in steers.values()], dim=1).T.contiguous()
        self.Q_t = self.Q_t.to(device)
        ranks = torch.tensor([steer.rank for steer in steers.values()])
        # (steers, total rank): which columns of P and Q belong to which steer.
        self.columns = torch.eye(len(ranks)).repeat_interleave(ranks, dim=1).to(device)
        self.count = 0
        self._given: list[dict[str, float]] = [{} for _ in range(most)]
        self._table: Tensor | None = None
        self._only: int | None = None

    def move(
        self,
        *,
        count: int,
        removed: Sequence[int] = (),
        added: Sequence[tuple[int, Mapping[str, float]]] = (),
        moved: Sequence[tuple[int, int, bool]] = (),
    ) -> None:
        """What happened to the batch since the last step, in this order.

        Args:
            count: Requests in the batch now.
            removed: Rows that ended.
            added: New rows and their strengths.
            moved: ``(from, to, swap)``.
        """
        for row in removed:
            self._given[row] = {}
        for row, strengths in added:
            self._given[row] = dict(strengths)
        for start, end, swap in moved:
            back = self._given[end] if swap else {}
            self._given[start], self._given[end] = back, self._given[start]
        self.count, self._table = count, None

    @contextlib.contextmanager
    def only(self, row: int) -> Iterator[None]:
        """Within, every hidden row belongs to this one request: positions of its prompt."""
        self._only = row
        try:
            yield
        finally:
            self._only = None

    def steered(self, hidden: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows dim"]:
        """Hidden rows with each request's steers in them; the very same tensor where none asks.

        Computed in float32 and rounded to the rows' dtype once.
        """
        if self._only is not None:
            row = slice(self._only, self._only + 1)
        elif any(self._given[: self.count]):
            if hidden.shape[0] != self.count:
                raise UnsupportedError(
                    f"the engine computes scores for {hidden.shape[0]} rows in a batch of "
                    f"{self.count} requests, so strengths cannot be told apart; this way of "
                    "decoding is not supported with steers"
                )
            row = slice(0, self.count)
        else:
            return hidden
        if not any(self._given[row]):
            return hidden
        scales = self._strengths()[row] @ self.columns
        base = hidden.float()
        return (base + ((base @ self.P) * scales) @ self.Q_t).to(hidden.dtype)

    def _strengths(self) -> Float[Tensor, "rows steers"]:
        if self._table is None:
            table = torch.zeros(self.count, len(self.number))
            for row, strengths in enumerate(self._given[: self.count]):
                for name, strength in strengths.items():
                    table[row, self.number[name]] = strength
            self._table = table.to(self.P.device)
        return self._table
