"""The strengths of an engine's requests on the device, one row per slot.

All memory that a step uses is allocated at the start: a table of strengths, and buffers for as many
rows as a step can have. A step runs the same operations on the same memory, whichever requests it
has, and reads nothing back from the device. So it neither waits for the device nor allocates
memory, and it can be captured in a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from ..errors import UnsupportedError
from ..steer import Steer
from .requests import check_site


class Slots:
    """The strengths of the requests that an engine holds, by slot.

    Args:
        steers: The steers that requests may name; all act at the output site.
        most: The number of slots.
        device: The device of the hidden states.
        dtype: The type of hidden states.
        rows: The expected largest number of rows in one call. More rows work too, at the price of
            new buffers when they first come.
        tokens: The expected largest number of tokens in a step; more work too, in the same way.

    Raises:
        UnsupportedError: A steer of the input site.
    """

    def __init__(
        self,
        steers: Mapping[str, Steer],
        most: int,
        device: torch.device,
        dtype: torch.dtype,
        rows: int,
        tokens: int,
    ) -> None:
        check_site(steers)
        self.device, self.dtype = device, dtype
        self.asks = np.zeros(most, dtype=bool)  # on the host: which slots ask for any steer
        self._columns: dict[str, slice] = {}
        start = 0
        for name, steer in steers.items():
            self._columns[name] = slice(start, start + steer.P.shape[1])
            start += steer.P.shape[1]
        self._staged: dict[int, NDArray[np.float32]] = {}
        # What is made here is written to in later steps, so it is no tensor of inference mode.
        with torch.inference_mode(False):
            self._P = torch.cat([s.P.float() for s in steers.values()], dim=1).to(device)
            Q = torch.cat([s.Q.float() for s in steers.values()], dim=1).to(device)
            self._Q_t = Q.T.contiguous()
            self._table = torch.zeros(most, start, device=device)
            self._any = torch.zeros(most, 1, dtype=torch.bool, device=device)
            self._numbers = torch.arange(tokens, dtype=torch.int32, device=device)
        self._reserve(rows)

    def _reserve(self, rows: int) -> None:
        dim, rank = self._P.shape
        with torch.inference_mode(False):
            self._base = torch.zeros(rows, dim, device=self.device)
            self._inner = torch.zeros(rows, rank, device=self.device)
            self._scales = torch.zeros(rows, rank, device=self.device)
            self._mask = torch.zeros(rows, 1, dtype=torch.bool, device=self.device)
            self._out = torch.zeros(rows, dim, dtype=self.dtype, device=self.device)
            self._found = torch.zeros(rows, dtype=torch.int64, device=self.device)
            self._owners = torch.zeros(rows, dtype=torch.int64, device=self.device)

    def put(self, slot: int, strengths: Mapping[str, float]) -> None:
        """Give a slot to a request; its earlier strengths are replaced when `flush` is called."""
        row = np.zeros(self._table.shape[1], dtype=np.float32)
        for name, strength in strengths.items():
            row[self._columns[name]] = strength
        self._staged[slot] = row
        self.asks[slot] = bool(row.any())

    @torch.no_grad()
    def flush(self) -> None:
        """Send the strengths that are new since the last call; if there are none, send nothing."""
        if not self._staged:
            return
        slots = self._send(torch.tensor([*self._staged], dtype=torch.int64))
        rows = self._send(torch.from_numpy(np.stack([*self._staged.values()])))
        self._table.index_copy_(0, slots, rows)
        self._any.index_copy_(0, slots, (rows != 0).any(dim=1, keepdim=True))
        self._staged.clear()

    def _send(self, values: Tensor) -> Tensor:
        if self.device.type == "cpu":
            return values
        # From pinned memory, so that the host does not wait; torch keeps it until it is read.
        return values.pin_memory().to(self.device, non_blocking=True)

    @torch.no_grad()
    def steered(
        self, hidden: Float[Tensor, "rows dim"], owners: Int[Tensor, " owners"]
    ) -> Float[Tensor, "rows dim"]:
        """Hidden rows, each changed by the steers of its slot, in a buffer of this object.

        The sum is computed in float32 and rounded to the dtype of the rows once. Rows of slots
        without a steer are copied bit by bit.
        """
        count = hidden.shape[0]
        if owners.shape[0] != count:
            raise UnsupportedError(
                f"the engine computes scores for {count} rows and has announced "
                f"{owners.shape[0]}, so strengths cannot be told apart; this way of "
                "running is not supported with steers"
            )
        if count > self._base.shape[0]:
            self._reserve(count)
        base, out = self._base[:count], self._out[:count]
        inner, scales, mask = self._inner[:count], self._scales[:count], self._mask[:count]
        # `steer.change`, into buffers of this object: a captured graph reads and writes them.
        base.copy_(hidden)
        torch.mm(base, self._P, out=inner)
        torch.index_select(self._table, 0, owners, out=scales)
        inner.mul_(scales)
        base.addmm_(inner, self._Q_t)
        out.copy_(base)
        torch.index_select(self._any, 0, owners, out=mask)
        return torch.where(mask, out, hidden, out=out)

    @torch.no_grad()
    def owners(
        self,
        starts: Int[Tensor, " starts"],
        slots: Int[Tensor, " requests"],
        first: int,
        count: int,
    ) -> Int[Tensor, " count"]:
        """The slot of each of `count` tokens of a batch, in a buffer of this object.

        Args:
            starts: The first token of each request, and after the last one the number of tokens.
            slots: The slot of each request.
            first: The number of the first of these tokens in the batch.
            count: The number of tokens.
        """
        if count > self._found.shape[0]:
            self._reserve(count)
        if first + count > self._numbers.shape[0]:
            with torch.inference_mode(False):
                self._numbers = torch.arange(first + count, device=self.device).int()
        found = self._found[:count]
        numbers = self._numbers[first : first + count]
        torch.searchsorted(starts, numbers, right=True, out=found)
        return torch.index_select(slots, 0, found.sub_(1), out=self._owners[:count])
