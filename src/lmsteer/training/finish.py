"""From the learned matrices to a steer: how many directions to keep, and which."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..head import Head, fingerprint
from ..hidden import States
from ..steer import Steer
from .curvature import Curvature, Directions
from .objective import Map, mean_nll

RANK_TOLERANCE = 0.002
"""Nats a token that the default rank may lose on held-out text against full rank."""
LEAST_RANK = 4


def to_steer(
    model: nn.Module,
    head: Head,
    learned: Map,
    curvature: Curvature | None,
    held_out: States | None,
    rank: int | None,
    name: str,
    record: dict[str, Any],
) -> Steer:
    """The steer of a learned map.

    Args:
        model: For the fingerprint.
        head: Judges what a rank loses.
        learned: At full rank.
        curvature: Where known, directions are cut by what they do to the loss, else by their
            singular values.
        held_out: What a rank is judged on; None keeps all directions unless `rank` is given.
        rank: Directions to keep, or None to choose.
        name: Of the steer.
        record: Told the rank and what it lost.
    """
    mark = fingerprint(model, "output")
    if curvature is None:
        return _plain(learned, rank, name, mark, record)
    parts = [
        Directions.of(matrix, curvature, number)
        for number, matrix in enumerate((learned.style, learned.domain))
        if matrix is not None
    ]
    full = len(learned.style)
    if rank is None and held_out is not None:
        rank = _fewest(head.fast(), parts, learned, held_out, full, record)
    kept = rank or full
    factors = [part.factors(kept) for part in parts]
    lost = learned.style.cpu() - factors[0][0] @ factors[0][1].T
    size = float(learned.style.norm()) or 1.0
    record["rank"] = {"kept": kept, "of": full, "relative_error": float(lost.norm()) / size} | (
        record.get("rank", {})
    )
    part = None
    if len(factors) == 2:
        part = Steer(*factors[1], f"{name}.domain", fingerprint=mark, record={"part": "domain"})
    return Steer(*factors[0], name, "output", part, mark, record)


def _fewest(
    head: Head,
    parts: list[Directions],
    learned: Map,
    held_out: States,
    full: int,
    record: dict[str, Any],
) -> int:
    """The first of 4, 8, 16, ... directions within the tolerance of all of them."""
    best = mean_nll(head, held_out, learned)
    rank = LEAST_RANK
    while rank < full:
        nll = mean_nll(head, held_out, _cut(parts, rank, held_out.hidden))
        if nll <= best + RANK_TOLERANCE:
            record["rank"] = {"nll": nll, "nll_full": best, "tolerance": RANK_TOLERANCE}
            return rank
        rank *= 2
    return full


def _cut(parts: list[Directions], rank: int, like: Tensor) -> Map:
    matrices = [(P @ Q.T).to(like) for P, Q in (part.factors(rank) for part in parts)]
    return Map(matrices[0], matrices[1] if len(matrices) == 2 else None)


def _plain(learned: Map, rank: int | None, name: str, mark: Any, record: dict[str, Any]) -> Steer:
    part = None
    if learned.domain is not None:
        told = {"part": "domain"}
        part = Steer.from_matrix(
            learned.domain, rank, name=f"{name}.domain", fingerprint=mark, record=told
        )
    steer = Steer.from_matrix(learned.style, rank, name=name, domain=part, fingerprint=mark)
    lost = torch.linalg.norm(learned.style.cpu() - steer.matrix())
    size = float(learned.style.norm()) or 1.0
    record["rank"] = {
        "kept": steer.rank,
        "of": steer.dim,
        "relative_error": float(lost) / size,
    }
    return Steer(steer.P, steer.Q, name, "output", part, mark, record)
