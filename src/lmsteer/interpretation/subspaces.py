"""How the directions of several steers relate to one another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..errors import InputError, MismatchError
from ..steer import Steer


def subspace_angles(one: Steer, other: Steer, *, rank: int = 4) -> list[float]:
    """The principal angles, in degrees, between the leading subspaces that two steers write to.

    Args:
        one: A steer.
        other: Another steer, of the same site and dim.
        rank: The number of leading directions of each, at most the smaller rank of the two.

    Returns:
        The angles. 0 degrees is a shared direction and 90 an unrelated one; two random subspaces of
        a wide space are close to 90 degrees apart.
    """
    if (one.site, one.dim) != (other.site, other.dim):
        raise MismatchError(
            f"{one.name!r} and {other.name!r} act on different embeddings "
            f"({one.site}/{one.dim}, {other.site}/{other.dim})"
        )
    if rank < 1:
        raise InputError(f"rank must be at least 1, was: {rank}")
    count = min(rank, one.rank, other.rank)
    bases = [steer.svd()[2][:, :count] for steer in (one, other)]
    cosines = torch.linalg.svdvals(bases[0].T @ bases[1]).clamp(0, 1)
    return [float(angle) for angle in torch.rad2deg(torch.arccos(cosines))]


def overlaps(steers: Sequence[Steer], *, rank: int = 4) -> np.ndarray:
    """``(steers, steers)`` mean squared cosine of these angles: 1 the same subspace, 0 none."""
    found = np.eye(len(steers))
    for i, one in enumerate(steers):
        for j in range(i):
            angles = np.deg2rad(subspace_angles(one, steers[j], rank=rank))
            found[i, j] = found[j, i] = float(np.mean(np.cos(angles) ** 2))
    return found
