"""A float32 model that multiplies bf16 numbers for the length of a pass.

Under autocast alone, torch converts every weight again at every call, and carries the rows between
the layers in float32. Here each weight is converted once, beside the model, and a forward call
finds the copies in place of the model's own; the rows are then bf16 between the layers too, as in a
model that was loaded in bf16. The tables of embeddings and the head, in models with a large
vocabulary most of the weights, are copied only for those who read the scores: otherwise what is
looked up in them is converted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import nn

from .attachment import alone
from .modes import autocast, fast_dtype
from .reading import changed_inputs
from .sketch import is_plain
from .tables import head_of, input_tables
from .wrappers import unwrap


def lowered(
    model: nn.Module, device: torch.device, fast: bool, *, tables: bool = False
) -> Callable[[], AbstractContextManager[None]]:
    """Blocks within which a model computes in bf16; after each, it is bitwise what it was.

    The copies take two bytes per parameter and last as long as what is returned. A model that is
    not in float32 is left as it is, and so are quantised weights, and those that accelerate keeps
    on disk: autocast, which a block opens too, converts these.

    Parameters belong to the model, not to a thread: another thread that calls it within a block
    would compute in bf16 as well. A block holds the lock that `alone` gives, so `generate` and
    `stream` in other threads wait for its end.

    Args:
        model: The language model.
        device: Where its inputs are.
        fast: Whether bf16 is wanted; if not, or where the hardware does not multiply it, the blocks
            change nothing.
        tables: Whether the embeddings and the head are copied too.

    Returns:
        A function that opens a block, to be used for one forward call: the model is its own
        between two calls.
    """
    dtype = fast_dtype(device)
    if not fast or dtype == torch.float32:
        return contextlib.nullcontext
    copies = [(weight, weight.detach().to(dtype)) for weight in _copied(model, tables=tables)]

    if not copies:
        return partial(autocast, device, True)

    @contextlib.contextmanager
    def block() -> Iterator[None]:
        with (
            autocast(device, True),
            alone(model),
            changed_inputs(model, lambda rows: rows.to(dtype)),
        ):
            own = [weight.data for weight, _ in copies]
            try:
                for weight, copy in copies:
                    weight.data = copy
                yield
            finally:
                for (weight, _), data in zip(copies, own, strict=True):
                    weight.data = data

    return block


def _copied(model: nn.Module, *, tables: bool) -> list[nn.Parameter]:
    """The float32 parameters but those that stay so; `tables`: input tables and head as well."""
    inside: Any = unwrap(model)
    apart = () if tables else (head_of(model), *input_tables(model))
    left = {id(weight) for table in apart for weight in table.parameters()}
    exact = tuple(getattr(inside, "_keep_in_fp32_modules_strict", None) or ())
    return [
        weight
        for name, weight in inside.named_parameters()
        if id(weight) not in left
        and weight.dtype == torch.float32
        and is_plain(weight)
        and not any(part in name.split(".") for part in exact)
    ]
