"""The strengths of each row of an engine's running batch, and how they change hidden rows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import UnsupportedError
from ..steer import Steer, change
from .requests import check_site

_STACKS = 16  # combinations of steers kept side by side in memory


@dataclass(frozen=True, eq=False)
class _Mix:
    """Factors of the steers in use, and each row's strength of each column."""

    P: Float[Tensor, "dim rank"]
    Q_t: Float[Tensor, "rank dim"]
    scales: Float[Tensor, "rows rank"]


class Rows:
    """The strengths of the requests in a batch that changes from step to step.

    Args:
        steers: The steers that requests may name; all act at the output site.
        most: The largest number of requests in a batch.
        device: The device of the hidden states.

    Raises:
        UnsupportedError: A steer that acts at the input site, or on the prompt alone.
    """

    def __init__(self, steers: Mapping[str, Steer], most: int, device: torch.device) -> None:
        check_site(steers)
        self._factors = {
            name: (steer.P.to(device), steer.Q.T.contiguous().to(device))
            for name, steer in steers.items()
        }
        self._stacks: dict[tuple[str, ...], tuple[Tensor, Tensor]] = {}
        self.count = 0
        self._given: list[dict[str, float]] = [{} for _ in range(most)]
        self._mix: _Mix | None = None  # of the whole batch
        self._only: int | None = None

    def move(
        self,
        *,
        count: int,
        removed: Sequence[int] = (),
        added: Sequence[tuple[int, Mapping[str, float]]] = (),
        moved: Sequence[tuple[int, int, bool]] = (),
    ) -> None:
        """Follow what happened to the batch since the last step, in this order.

        Args:
            count: The number of requests in the batch now.
            removed: The rows whose requests ended.
            added: The new rows and their strengths.
            moved: The moves of rows, ``(from, to, swap)``.
        """
        for row in removed:
            self._given[row] = {}
        for row, strengths in added:
            self._given[row] = dict(strengths)
        for start, end, swap in moved:
            back = self._given[end] if swap else {}
            self._given[start], self._given[end] = back, self._given[start]
        self.count, self._mix = count, self._mixed(self._given[:count])

    @property
    def any_asks(self) -> bool:
        """Whether any request in the batch asks for a steer."""
        return self._mix is not None

    @contextlib.contextmanager
    def only(self, row: int) -> Iterator[None]:
        """Within the block all hidden rows are positions of this one request's prompt."""
        self._only = row
        try:
            yield
        finally:
            self._only = None

    def steered(self, hidden: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows dim"]:
        """Hidden rows changed by each request's steers; the same tensor if no request asks for one.

        The sum is computed in float32 and rounded to the dtype of the rows once.
        """
        if self._only is not None:
            mix = self._mixed(self._given[self._only : self._only + 1])
        else:
            mix = self._mix
            if mix is not None and hidden.shape[0] != self.count:
                raise UnsupportedError(
                    f"the engine computes scores for {hidden.shape[0]} rows in a batch of "
                    f"{self.count} requests, so strengths cannot be told apart; this way of "
                    "decoding is not supported with steers"
                )
        if mix is None:
            return hidden
        base = hidden.float()
        return (base + change(base, mix.P, mix.Q_t.T, mix.scales)).to(hidden.dtype)

    def _mixed(self, given: Sequence[Mapping[str, float]]) -> _Mix | None:
        """The steers that any of these rows asks for, side by side."""
        names = [name for name in self._factors if any(name in row for row in given)]
        if not names:
            return None
        if tuple(names) not in self._stacks:
            if len(self._stacks) >= _STACKS:
                self._stacks.clear()
            P = torch.cat([self._factors[name][0] for name in names], dim=1)
            Q_t = torch.cat([self._factors[name][1] for name in names], dim=0)
            self._stacks[tuple(names)] = P, Q_t
        P, Q_t = self._stacks[tuple(names)]
        ranks = torch.tensor([self._factors[name][0].shape[1] for name in names])
        table = torch.tensor([[row.get(name, 0.0) for name in names] for row in given])
        return _Mix(P, Q_t, table.repeat_interleave(ranks, dim=1).to(P.device))
