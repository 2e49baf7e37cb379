"""What a block of code changes on a model and then restores: mode, gradients, dtype."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn

from .sketch import is_plain


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


@contextlib.contextmanager
def in_one_product(model: nn.Module) -> Iterator[None]:
    """Within the block, torch multiplies the rows of a batch by a matrix at once.

    Rows that do not lie evenly in memory (the last positions of several prompts, what attention
    gives for one new token) it would multiply one text at a time, with a copy of the matrix for
    each, if the matrix gathers no gradient: 16 prompts took 26 seconds and 5 GB at the head of
    Gemma 3 270M in bf16, in place of 0.1 seconds. So parameters that are frozen are said to gather
    gradients: use this under `torch.inference_mode`, where none are made. Compiled modules, whose
    code is their own and would be compiled anew, are left as they are.
    """
    compiled = any(
        "_orig_mod" in module._modules or getattr(module, "_compiled_call_impl", None) is not None
        for module in model.modules()
    )
    found = [] if compiled else [p for p in model.parameters() if is_plain(p)]
    held = [parameter for parameter in found if not parameter.requires_grad]
    for parameter in held:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in held:
            parameter.requires_grad_(False)


def autocast(device: torch.device, fast: bool) -> contextlib.AbstractContextManager[Any]:
    """bf16 within the block, if it is wanted and the hardware multiplies it."""
    dtype = fast_dtype(device)
    if not fast or dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype)
