"""Layers that forget their activations and compute them again: less memory, a third more time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def checkpointed(model: Any, wanted: bool) -> Iterator[None]:
    """Within the block, where `wanted`, a backward pass needs no activations kept."""
    if not wanted:
        yield
        return
    # transformers 5 has another name for it.
    new = hasattr(model, "activation_checkpointing_enable")
    prefix = "activation" if new else "gradient"
    getattr(model, f"{prefix}_checkpointing_enable")({"use_reentrant": False})
    # Layers look at their own flag alone: modules inside them stay in eval mode, and the dropout
    # that some layers (BART's) do themselves is put to 0.
    layers = [m for m in model.modules() if getattr(m, "gradient_checkpointing", False)]
    own = ("dropout", "activation_dropout", "layerdrop")
    kept = [
        (layer, name, value)
        for layer in layers
        for name in own
        if isinstance(value := getattr(layer, name, None), float)
    ]
    for layer, name, _ in kept:
        setattr(layer, name, 0.0)
    for layer in layers:
        layer.training = True
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False
        for layer, name, value in kept:
            setattr(layer, name, value)
        getattr(model, f"{prefix}_checkpointing_disable")()
