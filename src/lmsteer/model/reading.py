"""Read the rows that the head reads; change the embeddings that the trunk reads."""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from ..errors import UnsupportedError
from .hooks import Hook, after, before
from .tables import head_of, input_tables
from .wrappers import learned_prompt, name_of, unwrap


@contextlib.contextmanager
def changed_inputs(
    model: nn.Module, change: Callable[[Float[Tensor, "batch seq dim"]], Tensor]
) -> Iterator[None]:
    """Within the block, the model reads `change(embeddings)`; gradients flow through it.

    This is for training at the input site; `attach` is for finished steers.
    """

    def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        return change(output)

    handles = [after(table, hook) for table in input_tables(model)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Reached(Exception):
    """Raised at the head to stop a forward pass there; it has the rows that the head would read."""

    def __init__(self, hidden: Tensor) -> None:
        self.hidden = hidden


CACHE_NAMES = ("cache", "past_key_values")


def cache_name(model: nn.Module) -> str:
    """The cache's name in a model's forward: "past_key_values"; from transformers 5.24 "cache"."""
    new, old = CACHE_NAMES
    return new if new in inspect.signature(unwrap(model).forward).parameters else old


def read_hidden(model: nn.Module, **inputs: Any) -> Float[Tensor, "batch seq dim"]:
    """The rows that the head would read, without running the head.

    The model inside any wrapper reads, and not its compiled code, since the forward pass is stopped
    half-way.

    Args:
        model: The language model, in eval mode.
        **inputs: The arguments of its forward pass: ``input_ids``, ``attention_mask``, ...; a cache
            that is given under its `cache_name`, with ``use_cache=True``, is filled.

    Returns:
        The base rows, before any steer attached at the output site.

    Raises:
        UnsupportedError: The model never calls its head, or its PEFT wrapper reads a learned prompt
            before every text.
    """
    if learned_prompt(model) is not None:
        raise UnsupportedError(
            f"{name_of(model)} reads a learned prompt before every text, which shifts what stands "
            "where; its states cannot be read, so it can be steered but not trained on, calibrated "
            "or explained. Give the model without the prompt"
        )
    inside = unwrap(model)

    def stop(rows: Tensor) -> None:
        raise _Reached(rows)

    handle = _before_head(model, stop)
    try:
        inside._call_impl(**{"use_cache": False, **inputs})  # as calling it does, but uncompiled
    except _Reached as reached:
        return reached.hidden
    finally:
        handle.remove()
    raise UnsupportedError(
        f"{type(inside).__name__} never called its output embeddings in a forward pass"
    )


@contextlib.contextmanager
def base_rows(
    model: nn.Module,
) -> Iterator[Callable[[], Float[Tensor, "batch *seq dim"]]]:
    """Within the block, a function gives the rows that the head read last, before any steer."""
    last: deque[Tensor] = deque(maxlen=1)
    handle = _before_head(model, last.append)
    try:
        yield lambda: last[0]
    finally:
        handle.remove()


def _before_head(model: nn.Module, told: Callable[[Tensor], None]) -> Hook:
    """Call `told` with the rows that the head is about to read in this thread, before any steer.

    Another thread may be using the model. The hook goes before that of the steers, also if they
    are attached already.
    """
    here = threading.get_ident()

    def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        if threading.get_ident() == here:
            told(args[0])

    return before(head_of(model), hook, prepend=True)
