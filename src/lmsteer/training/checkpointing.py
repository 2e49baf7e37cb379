"""Layers that drop their activations and compute them again: less memory, a third more time."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from ..errors import UnsupportedError
from ..model import unwrap

# A layer looks at its own flag alone. So the modules inside it stay in eval mode, and the dropout
# that some layers (BART's) compute themselves is set to 0.
_DROPOUTS = ("dropout", "activation_dropout", "layerdrop")


@contextlib.contextmanager
def checkpointed(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Within the block, if `wanted`, layers keep no activations for the backward pass.

    This is set layer by layer, in the attributes that transformers uses. Its own switch would also
    put a hook on the embeddings, and would not restore what was set before.

    Raises:
        UnsupportedError: The model's layers cannot do this.
    """
    if not wanted:
        yield
        return
    inside = unwrap(model)
    layers: list[Any] = [m for m in inside.modules() if hasattr(m, "gradient_checkpointing")]
    if not layers:
        raise UnsupportedError(
            f"the layers of {type(inside).__name__} cannot compute activations twice; leave "
            "out checkpointing"
        )
    changed = ("gradient_checkpointing", "_gradient_checkpointing_func", "training", *_DROPOUTS)
    before = [(layer, {k: v for k, v in vars(layer).items() if k in changed}) for layer in layers]
    for layer in layers:
        layer.gradient_checkpointing = layer.training = True
        layer._gradient_checkpointing_func = functools.partial(checkpoint, use_reentrant=False)
        for name in _DROPOUTS:
            if isinstance(getattr(layer, name, None), float):
                setattr(layer, name, 0.0)
    try:
        yield
    finally:
        for layer, kept in before:
            for name in changed:
                vars(layer).pop(name, None)
            vars(layer).update(kept)
