"""How models are recognised: the sketch of a table of embeddings, and a digest of all weights."""

from __future__ import annotations

import hashlib

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .wrappers import unwrap

_SIDE = 16
_ROWS_A_CHUNK = 8192


@torch.no_grad()
def sketch(table: Float[Tensor, "vocab dim"]) -> Float[Tensor, " sketch"]:
    """A few numbers by which copies of a table are recognised: a projection of both its sides.

    Both projections use fixed signs, which depend on the ids of the rows, not on their number.
    """
    right = _signs(table.shape[1], 1).to(table.device)
    total = torch.zeros(_SIDE, _SIDE, device=table.device)
    left = _signs(table.shape[0], 2).to(table.device)
    for start in range(0, table.shape[0], _ROWS_A_CHUNK):
        rows = slice(start, start + _ROWS_A_CHUNK)
        total += left[rows].T @ (table[rows].float() @ right)
    found: Tensor = (total / total.norm().clamp_min(1e-30)).flatten().cpu()
    return found


def _signs(count: int, salt: int) -> Float[Tensor, "count side"]:
    """Fixed signs by integer hashing (the steps of splitmix64), the same on every machine."""
    x = torch.arange(count * _SIDE, dtype=torch.int64) + (salt << 40)
    for multiplier in (-7046029254386353131, -4658895280553007687, -7723592293110705685):
        x = (x ^ (x >> 27)) * multiplier
    return ((x >> 33) & 1).mul(2).sub(1).float().view(count, _SIDE)


@torch.no_grad()
def sample_digest(model: nn.Module) -> str:
    """The SHA-256 of a few values of every parameter, which is quick to compute."""
    inside = unwrap(model)
    digest = hashlib.sha256(type(inside).__name__.encode())
    for name, parameter in inside.named_parameters():
        digest.update(f"{name}{tuple(parameter.shape)}{parameter.dtype}".encode())
        if is_plain(parameter):
            flat = parameter.flatten()
            step = max(1, len(flat) // 64)
            digest.update(repr(flat[::step].tolist()).encode())
    return digest.hexdigest()


def is_plain(weight: Tensor) -> bool:
    """True for floating-point numbers in memory; quantised weights are of another type."""
    is_number = type(weight.data) is Tensor and weight.is_floating_point()
    return is_number and weight.device.type != "meta"
