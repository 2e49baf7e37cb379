"""What others put around a model (torch.compile, PEFT, data parallelism), and the model inside.

A wrapper behaves like its model in some respects (often its attributes) and not in others (the
arguments of its forward, the hooks that a call runs). So code that needs a model's parts or its
signature asks the model itself: `unwrap` is the one place that knows how to get there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from ..errors import UnsupportedError

# They are known by name, because looking at their classes would import their packages.
_SHARDED = ("FullyShardedDataParallel", "FSDPModule", "DeepSpeedEngine")
_PEFT = ("PeftModel", "PeftMixedModel")


def unwrap(model: nn.Module) -> nn.Module:
    """The language model itself, whatever is wrapped around it; adapters inside it stay.

    Raises:
        UnsupportedError: The wrapper keeps only a part of the weights in each process.
    """
    *_, inside = _layers(model)
    return inside


def learned_prompt(model: nn.Module) -> Any | None:
    """The PEFT wrapper that puts a learned prompt or prefix before every text; None without one.

    Only the forward and the generate of this wrapper read the prompt; the model inside does not.
    """
    for layer in _layers(model):
        if _is_a(layer, *_PEFT) and _learns_prompt(layer):
            return layer
    return None


def has_adapter(module: nn.Module) -> bool:
    """Whether this is a layer of PEFT, around the layer that it adapts or replaces."""
    return bool({"base_layer", "original_module"} & module._modules.keys())


def plain_layer(module: Any) -> Any:
    """A layer without the adapters that PEFT has put around it; a copy that replaces it stays."""
    while True:
        if "base_layer" in module._modules:
            module = module.base_layer
        elif "token_adapter" in module._modules:  # a few rows are trained beside it
            module = module.original_module
        else:
            return module


def name_of(model: nn.Module) -> str:
    """A model's class, with the kind of its learned prompt, as messages name it."""
    prompted = learned_prompt(model)
    if prompted is None:
        return type(unwrap(model)).__name__
    kind = getattr(prompted.active_peft_config.peft_type, "value", "a learned prompt")
    return f"{type(prompted).__name__} with {kind}"


def _layers(model: nn.Module) -> Iterator[nn.Module]:
    """The layers from the outermost wrapper to the model itself."""
    layer: Any = model
    while True:
        if _is_a(layer, *_SHARDED):
            raise UnsupportedError(
                f"{type(layer).__name__} shards the weights over processes, so that no process "
                "holds the word embeddings that a steer acts on; give the model before it is "
                "sharded"
            )
        yield layer
        if "_orig_mod" in layer._modules:  # torch.compile
            layer = layer._orig_mod
        elif isinstance(layer, nn.DataParallel | nn.parallel.DistributedDataParallel):
            layer = layer.module
        elif _is_a(layer, *_PEFT):
            layer = layer.base_model
        elif _is_a(layer, "BaseTuner"):  # what PEFT keeps between its wrapper and the model
            layer = layer.model
        else:
            return


def _learns_prompt(peft_model: Any) -> bool:
    config = getattr(peft_model, "active_peft_config", None)
    return bool(getattr(config, "is_prompt_learning", False))


def _is_a(module: nn.Module, *names: str) -> bool:
    return any(kind.__name__ in names for kind in type(module).__mro__)
