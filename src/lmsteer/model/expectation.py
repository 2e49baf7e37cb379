"""What a head expects at a row: the mean embedding of the next word, and how it can vary.

The slope of a target's NLL by its row h is ``b(h) - e_x``: e_x is the embedding of the target x,
and ``b(h)`` the expected embedding under the model, the sum of ``p(v | h) e_v`` over the
vocabulary, each embedding times the slope of the head's scale and soft-cap.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .head import Head

_ROWS = 8192  # rows of the vocabulary that are handled at once


def expected(
    head: Head, rows: Float[Tensor, "tokens dim"]
) -> tuple[Float[Tensor, "tokens dim"], Float[Tensor, "tokens vocab"], Tensor | float]:
    """The expected embedding at each row, exactly.

    Returns:
        The mean of the embeddings, each times the slope of the head's scale and soft-cap; the
        probabilities of the words; and those slopes: a number where there is no soft-cap.
    """
    table = head.weight
    scores = head.logits(rows.to(table.dtype)).float()
    if head.softcap is None:
        chance = scores.softmax(-1)
        return (chance.to(table.dtype) @ table).float() * head.scale, chance, head.scale
    slope = head.scale * (1.0 - (scores / head.softcap).square())
    chance = scores.softmax(-1)
    return ((chance * slope).to(table.dtype) @ table).float(), chance, slope


def scatter(head: Head, mass: Float[Tensor, " vocab"]) -> Float[Tensor, "dim dim"]:
    """The sum of ``mass_v e_v e_v^T`` over the vocabulary."""
    dim = head.weight.shape[1]
    total = torch.zeros(dim, dim, device=mass.device)
    for start in range(0, len(head.weight), _ROWS):
        table, share = head.weight[start : start + _ROWS].float(), mass[start : start + _ROWS]
        total += (table * share[:, None]).T @ table
    return total


def pulled_to(
    head: Head, rows: Float[Tensor, "tokens dim"], targets: Int[Tensor, " tokens"]
) -> Float[Tensor, "tokens dim"]:
    """The embedding of each target, with the slope of the head's scale and soft-cap there."""
    found = head.weight[targets].float()
    if head.softcap is None:
        return found * head.scale if head.scale != 1.0 else found
    bias = 0.0 if head.bias is None else head.bias[targets].float()
    scores = ((rows.float() * found).sum(-1) + bias) * head.scale
    cap = torch.tanh(scores / head.softcap)
    return found * (head.scale * (1.0 - cap.square()))[:, None]
