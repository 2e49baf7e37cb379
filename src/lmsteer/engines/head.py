"""vLLM's layer that multiplies by the head: the rows that a runner gives it are steered first."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from ..errors import UnsupportedError

_open = threading.local()  # what changes the rows that this thread gives to the head now


class Seen:
    """How many times the head was given rows."""

    def __init__(self) -> None:
        self.times = 0

    def demand(self) -> None:
        """Raise UnsupportedError if it never was: the text would silently be unsteered."""
        if not self.times:
            raise UnsupportedError(
                "this model does not compute its scores by vLLM's LogitsProcessor layer, so it "
                "cannot be steered there; write a model at fixed strengths with lmsteer export "
                "folder"
            )


@contextlib.contextmanager
def steering(change: Callable[[Tensor], Tensor]) -> Iterator[Seen]:
    """Within the block, the rows that this thread gives to the head go through `change` first.

    A runner opens it around its own computation of scores alone, so the head of a model that
    writes drafts, or a run that only warms up, is never steered.
    """
    seen = Seen()

    def counted(rows: Tensor) -> Tensor:
        seen.times += 1
        return change(rows)

    before, _open.change = getattr(_open, "change", None), counted
    try:
        yield seen
    finally:
        _open.change = before


def watch_head() -> None:
    """Make vLLM's layer obey `steering`; outside of such a block it works as before."""
    from vllm.model_executor.layers.logits_processor import LogitsProcessor

    plain = LogitsProcessor.forward
    if hasattr(plain, "lmsteer"):
        return

    @functools.wraps(plain)
    def forward(self: Any, lm_head: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        change = getattr(_open, "change", None)
        if change is not None and not self.logits_as_input:
            hidden_states = change(hidden_states)
        return plain(self, lm_head, hidden_states, *args, **kwargs)

    forward.lmsteer = True  # type: ignore[attr-defined]
    LogitsProcessor.forward = forward


def wrap(owner: type, name: str, around: Callable[..., Any]) -> None:
    """Replace a method by ``around(plain, self, ...)``, once.

    Raises:
        UnsupportedError: The class has no such method: this is another version of vLLM than the one
            that this was written for.
    """
    plain = getattr(owner, name, None)
    if plain is None:
        raise UnsupportedError(
            f"this vLLM has no {owner.__name__}.{name}, by which rows are steered; steers were "
            "tested on vLLM 0.32"
        )
    if hasattr(plain, "lmsteer"):
        return

    @functools.wraps(plain)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return around(plain, self, *args, **kwargs)

    method.lmsteer = True  # type: ignore[attr-defined]
    setattr(owner, name, method)
