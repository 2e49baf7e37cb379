"""Several processes that read one data set together: their numbers, and sums over all of them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

T = TypeVar("T")


@dataclass(frozen=True)
class Workers:
    """Process number `rank` of `size`."""

    rank: int = 0
    size: int = 1

    def add(self, *tensors: Tensor) -> None:
        """Replace each tensor by its sum over all processes, the same bits on each."""
        if self.size > 1:
            for tensor in tensors:
                on_gpu = dist.get_backend() == "nccl" and tensor.device.type == "cpu"
                moved = tensor.cuda() if on_gpu else tensor
                dist.all_reduce(moved)
                if on_gpu:
                    tensor.copy_(moved)

    def collect(self, item: T) -> list[T]:
        """The item of each process, in the order of their numbers; any values on the CPU."""
        if self.size == 1:
            return [item]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, item)
        return found

    def add_numbers(self, *numbers: float, device: torch.device) -> list[float]:
        """The sums of plain numbers over all processes."""
        if self.size == 1:
            return list(numbers)
        total = torch.tensor(numbers, dtype=torch.float64, device=device)
        self.add(total)
        return total.tolist()


ONE_PROCESS = Workers()


def workers() -> Workers:
    """The processes of this run: one, unless torch.distributed has been initialised."""
    if dist.is_available() and dist.is_initialized():
        return Workers(dist.get_rank(), dist.get_world_size())
    return ONE_PROCESS


@contextlib.contextmanager
def joined() -> Iterator[Workers]:
    """Join the processes that ``accelerate launch`` or ``torchrun`` has started."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized():
        yield workers()
        return
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield workers()
    finally:
        dist.destroy_process_group()
