"""PEFT's adapters, put on a model and taken off again: what LoRA and prefix tuning share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...errors import MissingExtraError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Adapter = dict[str, Tensor]
"""Tensors of an adapter by PEFT's own names, as `peft.get_peft_model_state_dict` gives them."""


def peft_module() -> Any:
    """PEFT, or what to install."""
    try:
        import peft
    except ImportError as error:
        raise MissingExtraError("peft", "peft", "this method") from error
    return peft


@contextlib.contextmanager
def wrapped(model: PreTrainedModel, config: Any, *, seed: int = 0) -> Iterator[Any]:
    """Within the block, the model is inside a `peft.PeftModel`; then it is as it came.

    Args:
        model: The base model, whose layers PEFT may replace until the block ends.
        config: A configuration of PEFT; its class decides which adapter is added.
        seed: The seed of the adapter's first values; torch's global random state does not change.
    """
    peft = peft_module()
    asked = {p: p.requires_grad for p in model.parameters()}
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            # A new module is in training mode, and would put the model into it.
            inside = peft.get_peft_model(model, config).train(model.training)
        try:
            yield inside
        finally:
            if not config.is_prompt_learning:  # a learned prompt stands beside the layers
                inside.unload()
                vars(model).pop("peft_config", None)  # earlier versions of PEFT leave it
    finally:
        for parameter, wish in asked.items():
            parameter.requires_grad_(wish)


def adapter_of(inside: Any) -> Adapter:
    """The adapter's tensors, copied."""
    # "auto" would look the base model up on the Hub.
    found = peft_module().get_peft_model_state_dict(inside, save_embedding_layers=False)
    return {name: value.detach().clone() for name, value in found.items()}
