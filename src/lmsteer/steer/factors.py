"""Arithmetic on the two factors of a map: the decomposition, the cut to a lower rank."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError

FACTOR_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_factors(P: Tensor, Q: Tensor, name: str) -> None:
    """Raise InputError unless both hold finite numbers and have one shape, (dim, rank)."""
    if P.ndim != 2 or P.shape != Q.shape or P.shape[1] == 0:
        raise InputError(
            "P and Q must both have shape (dim, rank) with rank >= 1, "
            f"were: {tuple(P.shape)} and {tuple(Q.shape)}"
        )
    for factor, values in (("P", P), ("Q", Q)):
        if fault := fault_of_numbers(values):
            raise InputError(f"{factor} of steer {name!r} {fault}")


def fault_of_numbers(values: Tensor) -> str | None:
    """What is wrong with the numbers of a tensor that a steer keeps; None if nothing is."""
    if values.dtype not in FACTOR_DTYPES:
        return f"must hold floating-point numbers of 16 to 64 bits, was: {values.dtype}"
    # As float32, in which they are kept and in which larger numbers are infinite.
    if not torch.isfinite(values.float()).all():
        return (
            "holds NaN or infinite values; train it again, or fetch the file again if it was "
            "downloaded"
        )
    return None


def check_rank(rank: int, most: int) -> None:
    """Raise InputError unless `rank` is between 1 and `most`."""
    if not 1 <= rank <= most:
        raise InputError(f"rank must be between 1 and {most}, was: {rank}")


def balanced_factors(
    left: Tensor, scale: Tensor, right_t: Tensor, rank: int
) -> tuple[Tensor, Tensor]:
    """P and Q, each column of equal norm, with P @ Q.T = left diag(scale) right_t cut to `rank`."""
    root = scale[:rank].sqrt()
    return left[:, :rank] * root, right_t[:rank].T * root


def svd_of(P: Tensor, Q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The singular value decomposition of ``P @ Q.T``, in float64.

    It is exact and computed from a small core, so that no ``(dim, dim)`` matrix is formed.
    """
    basis_p, core_p = torch.linalg.qr(P.double())
    basis_q, core_q = torch.linalg.qr(Q.double())
    left, scale, right_t = torch.linalg.svd(core_p @ core_q.T, full_matrices=False)
    return basis_p @ left, scale, basis_q @ right_t.T


def factors_of(W: Tensor, rank: int | None) -> tuple[Tensor, Tensor]:
    """P and Q whose ``P @ Q.T`` is W, or its best approximation of that rank."""
    if W.ndim != 2 or W.shape[0] != W.shape[1]:
        raise InputError(f"W must be a square matrix, was: {tuple(W.shape)}")
    if not torch.isfinite(W).all():
        raise InputError("W holds NaN or infinite values")
    rank = W.shape[0] if rank is None else rank
    check_rank(rank, W.shape[0])
    left, scale, right_t = torch.linalg.svd(W.detach().double().cpu())
    return balanced_factors(left, scale, right_t, rank)
