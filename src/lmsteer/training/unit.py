"""The length of a steer at strength 1."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..model import Head
from ..states import States

UNIT = 0.1
"""The mean root of the divergence from the base model at strength 1, in roots of nats."""


@torch.no_grad()
def root_divergence_of(
    head: Head, states: States, P: Float[Tensor, "dim rank"], Q: Float[Tensor, "dim rank"]
) -> float:
    """The mean root of the divergence from the base model at strength 1, in roots of nats.

    It grows with the size of the map, and 0.71 times it bounds the share of probability that moves
    (Pinsker's inequality). The divergence itself would be the wrong mean: after a swear
    word, a steer against toxic text is a thousand times as far from the base model as elsewhere,
    and such places alone would decide, which a model's own text hardly has.

    To second order, the divergence at a token is half the variance of ``e_v . (h P Q^T)`` over the
    words v that the model expects: over the whole vocabulary, of which the head reads the scores.
    """
    table = head.weight
    words, total = table @ Q.to(table), torch.zeros((), device=states.device)
    for part in head.chunks(len(states.hidden)):
        hidden = states.hidden[part].to(table.dtype)
        scores = head.logits(hidden).float()
        lifted = ((hidden @ P.to(table)) @ words.T).float() * head.scale
        if head.softcap is not None:
            lifted *= 1.0 - (scores / head.softcap).square()
        chance = scores.softmax(-1)
        mean = (chance * lifted).sum(-1)
        spread = (chance * lifted.square()).sum(-1) - mean.square()
        total += states.weights[part] @ (0.5 * spread).clamp_min(0.0).sqrt()
    return float(total / states.weights.sum())


def in_units(
    head: Head, states: States, P: Float[Tensor, "dim rank"], Q: Float[Tensor, "dim rank"]
) -> tuple[Tensor, Tensor]:
    """Factors of the same map at the length that strength 1 has; a map of zeros stays one."""
    root = root_divergence_of(head, states, P, Q) or UNIT
    size = (UNIT / root) ** 0.5  # of each factor
    return P * size, Q * size
