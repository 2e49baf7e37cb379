"""Read what single layers of a trunk write, and run no layer above them."""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from ..errors import InputError, UnsupportedError
from .hooks import after
from .tables import text_config
from .wrappers import name_of, unwrap


class _Passed(Exception):
    """Raised after the highest layer that is asked for, to stop the forward pass there."""


def layers_of(model: nn.Module) -> nn.ModuleList:
    """The trunk's layers: the outermost list of as many modules as the configuration says.

    Args:
        model: A decoder, with or without its head, or an encoder such as BERT.

    Raises:
        UnsupportedError: There is no such list, or the model is an encoder-decoder.
    """
    config = text_config(model)
    count = getattr(config, "num_hidden_layers", None)
    if not getattr(config, "is_encoder_decoder", False):
        for module in unwrap(model).modules():
            if isinstance(module, nn.ModuleList) and len(module) == count:
                return module
    raise UnsupportedError(
        f"{name_of(model)} has no single list of {count} layers, which this method needs; "
        "use a decoder-only model"
    )


def read_layers(
    model: nn.Module, layers: Sequence[int], **inputs: Any
) -> list[Float[Tensor, "batch seq dim"]]:
    """The rows that the given layers write; the layers above the highest of them do not run.

    Args:
        model: The model, in eval mode.
        layers: The numbers of the layers, counted from 0.
        **inputs: The arguments of its forward pass: ``input_ids``, ``attention_mask``, ...

    Returns:
        The rows of each layer in the order asked for, before any norm that the trunk ends with.

    Raises:
        InputError: There is no layer of such a number.
        UnsupportedError: The model has no single list of layers.
    """
    found = layers_of(model)
    if not layers or not 0 <= min(layers) <= max(layers) < len(found):
        raise InputError(
            f"{name_of(model)} has the layers 0 to {len(found) - 1}, asked for: {list(layers)}"
        )
    inside = unwrap(model)
    caches = "use_cache" in inspect.signature(inside.forward).parameters
    options = {"use_cache": False} if caches else {}
    written: dict[int, Tensor] = {}
    with contextlib.ExitStack() as stack:
        for number in set(layers):
            hook = _keeping(written, number, number == max(layers))
            stack.callback(after(found[number], hook).remove)
        with contextlib.suppress(_Passed):
            inside._call_impl(**options, **inputs)  # as calling it does, but uncompiled
    return [written[number] for number in layers]


def _keeping(written: dict[int, Tensor], number: int, is_last: bool) -> Any:
    here = threading.get_ident()  # another thread may be using the model

    def hook(module: nn.Module, args: Any, output: Any) -> None:
        if threading.get_ident() != here:
            return
        # Some families return more than the rows.
        written[number] = output[0] if isinstance(output, tuple) else output
        if is_last:
            raise _Passed

    return hook
