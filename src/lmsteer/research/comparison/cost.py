"""What a method costs to fit and to write with: seconds, memory, time per token."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ...generation import generate
from ...model import input_device
from ..methods import Method

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ROUNDS = 3


@dataclass
class Used:
    """Seconds, and the peak in MiB beyond what was in use before; None where it is not known."""

    seconds: float = 0.0
    mebibytes: float | None = None


@contextmanager
def used(device: torch.device) -> Iterator[Used]:
    """Measure the block. On a CPU the process's memory is read 20 times per second (Linux)."""
    found = Used()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        begun = time.perf_counter()
        yield found
        torch.cuda.synchronize(device)
        found.seconds = time.perf_counter() - begun
        found.mebibytes = (torch.cuda.max_memory_allocated(device) - before) / 2**20
        return
    samples = [_resident()]
    done = threading.Event()

    def sample() -> None:
        while not done.wait(0.05):
            samples.append(_resident())

    watcher = threading.Thread(target=sample, daemon=True)
    watcher.start()
    begun = time.perf_counter()
    try:
        yield found
    finally:
        found.seconds = time.perf_counter() - begun
        done.set()
        watcher.join()
        if samples[0] is not None:
            found.mebibytes = (max(filter(None, samples)) - samples[0]) / 2**20


def _resident() -> int | None:
    """Bytes of this process in memory."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def decode_ratio(
    method: Method,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    strength: float,
    **options: Any,
) -> float:
    """The time to write at a strength, divided by the base model's; medians of several rounds."""
    device = input_device(model)

    def clock(write: Callable[..., Any], *given: Any, **sampling: Any) -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        begun = time.perf_counter()
        write(model, tokenizer, prompts, *given, **sampling)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - begun

    times: tuple[list[float], list[float]] = ([], [])
    for number in range(ROUNDS):
        # Another seed in each round, so that no method can reuse what it has written before.
        sampling = {**options, "seed": 1000 + number}
        times[0].append(clock(generate, **sampling))
        times[1].append(clock(method.generate, strength, **sampling))
    return statistics.median(times[1]) / statistics.median(times[0])
