"""A model's embedding tables and configuration, read but never changed."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UnsupportedError
from ..steer import Site
from .sketch import is_plain
from .wrappers import has_adapter, unwrap


def head_of(model: nn.Module) -> Any:
    """The module that turns hidden states into scores: an nn.Linear, or what replaces one.

    Raises:
        UnsupportedError: The model has no output embeddings.
    """
    return _embeddings(model, "output")


def _embeddings(model: nn.Module, site: Site) -> Any:
    inside = unwrap(model)
    get: Any = getattr(inside, f"get_{site}_embeddings", None)
    found: nn.Module | None = None if get is None else get()
    if found is None:
        raise UnsupportedError(
            f"{type(inside).__name__} has no {site} embeddings; load the model with "
            "AutoModelForCausalLM (or AutoModelForSeq2SeqLM), not AutoModel; where this is "
            "something wrapped around a model, give the model inside it"
        )
    return found


def head_dim(model: nn.Module) -> int:
    """The dimension of the rows that the head reads."""
    head = head_of(model)
    # The packed weights of quantised heads have another shape; wrappers may not have `in_features`.
    return int(getattr(head, "in_features", None) or head.weight.shape[1])


def decoder_start(model: nn.Module) -> int | None:
    """The first token of an encoder-decoder model's decoder; None for other models."""
    inside = unwrap(model)
    config: Any = inside.config
    if not getattr(config, "is_encoder_decoder", False):
        return None
    for place in (config, getattr(inside, "generation_config", None)):
        start = getattr(place, "decoder_start_token_id", None)
        if start is not None:
            return int(start)
    raise UnsupportedError(
        f"{type(inside).__name__} does not say what its decoder begins with; set "
        "model.config.decoder_start_token_id"
    )


def input_device(model: nn.Module) -> torch.device:
    """The device of token ids, also if accelerate has spread the model over devices or disk."""
    return _device(input_tables(model)[0])


def head_device(model: nn.Module) -> torch.device:
    """The device on which the head computes."""
    return _device(head_of(model))


def head_dtype(model: nn.Module) -> torch.dtype:
    """The dtype in which the head computes, also a quantised one."""
    numbers = (p.dtype for p in head_of(model).parameters() if p.is_floating_point())
    return next(numbers, torch.float32)


def _device(module: nn.Module) -> torch.device:
    weight = next(itertools.chain(module.parameters(), module.buffers()))
    if weight.device.type != "meta":
        return weight.device
    # accelerate keeps the weights elsewhere, and loads them to this device when the module runs.
    return torch.device(getattr(getattr(module, "_hf_hook", None), "execution_device", "cpu"))


def input_tables(model: nn.Module) -> list[Any]:
    """Every nn.Embedding that looks words up in the input table (T5 and BART have several).

    An adapter around a table (PEFT's LoRA, a trained copy) is listed instead of the table inside:
    the trunk reads what comes out of the adapter.
    """
    table = _embeddings(model, "input")
    places = {_place(m.weight) for m in table.modules() if isinstance(m, nn.Embedding)}

    def is_table(module: nn.Module) -> bool:
        return isinstance(module, nn.Embedding) and _place(module.weight) in places

    found: list[Any] = [
        module
        for module in unwrap(model).modules()
        if module is table
        or is_table(module)
        or (has_adapter(module) and any(map(is_table, module.modules())))
    ]
    within = {inner for outer in found for inner in outer.modules() if inner is not outer}
    return [module for module in found if module not in within]


def _place(weight: Tensor) -> object:
    """The place of a table in memory; its shape if accelerate keeps it elsewhere."""
    return tuple(weight.shape) if weight.device.type == "meta" else weight.data_ptr()


def text_config(model: nn.Module) -> Any:
    """The configuration of the language part of a model."""
    config: Any = unwrap(model).config
    return config.get_text_config()


def is_stateful(model: nn.Module) -> bool:
    """True for models with a recurrent state instead of keys and values."""
    return bool(getattr(unwrap(model), "_is_stateful", False))


def affine(module: nn.Module) -> tuple[Tensor, Tensor | None]:
    """The weight and the bias of an affine module, also of a quantised or wrapped one."""
    if type(module) is nn.Linear and is_plain(module.weight):
        bias = module.bias
        return module.weight.detach(), None if bias is None else bias.detach()
    device = _device(module)
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    width: Any = getattr(module, "in_features", None) or module.weight.shape[1]  # type: ignore[index]
    eye = torch.eye(int(width), device=device, dtype=dtype)
    # Not called as a module: an attached steer would act.
    bias = module.forward(torch.zeros_like(eye[:1]))[0]
    return (module.forward(eye) - bias).T, bias


def context_length(model: nn.Module) -> int | None:
    """The largest number of tokens by the model's configuration; None where it does not say."""
    found = getattr(text_config(model), "max_position_embeddings", None)
    return None if found is None else int(found)
