"""What a block of code changes on a model and then restores: mode, gradients, dtype."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware multiplies it (several times faster); otherwise float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float32
    able: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # torch >= 2.13
    is_able = device.type == "cpu" and (able.get("amx_bf16") or able.get("avx512_bf16"))
    return torch.bfloat16 if is_able else torch.float32


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within the block the model is in eval mode; then each of its modules is as it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextlib.contextmanager
def learning(model: nn.Module, parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Within the block the given parameters alone gather gradients; then each is as it was."""
    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    wanted = set(parameters)
    for parameter in before:
        parameter.requires_grad_(parameter in wanted)
    try:
        yield
    finally:
        for parameter, asked in before.items():
            parameter.requires_grad_(asked)
            if parameter in wanted:
                parameter.grad = None


def frozen(model: nn.Module) -> contextlib.AbstractContextManager[None]:
    """Within the block no parameter of the model gathers a gradient; then each is as it was."""
    return learning(model, ())


def autocast(device: torch.device, fast: bool) -> contextlib.AbstractContextManager[Any]:
    """bf16 within the block, if it is wanted and the hardware multiplies it."""
    dtype = fast_dtype(device)
    if not fast or dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype)
