"""The training objective on frozen hidden states, with its gradient in closed form.

A text with labels y_1, y_2, ... is scored under ``h + y_1 h W_1 + y_2 h W_2 + ... + h D``: each W a
style, D the domain (the paper's "dummy" steer, always at strength 1). With h fixed the scores are
linear in the parts W and D, so the loss is convex in them (for a head without soft-cap).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..model import Head, token_nll
from ..states import States


@dataclass(eq=False)
class Map:
    """The matrices being learned: the styles', then the domain's if there is one."""

    parts: Float[Tensor, "parts dim dim"]
    domain: bool

    @classmethod
    def zeros(cls, states: States, *, domain: bool) -> Map:
        """All matrices at zero: the base model."""
        dim, count = states.hidden.shape[1], states.labels.shape[1] + domain
        return cls(torch.zeros(count, dim, dim, device=states.device), domain)

    def rows(self, states: States, dtype: torch.dtype) -> Float[Tensor, "held dim"]:
        """The steered rows of `states`, each at its own labels, with products in `dtype`."""
        hidden = states.hidden.to(dtype)
        steered = hidden.float()
        for part, value in zip(self.parts, states.values(domain=self.domain).T, strict=True):
            steered = steered + value[:, None] * (hidden @ part.to(dtype))
        return steered.to(dtype)

    def clone(self) -> Map:
        """A copy that later steps do not change."""
        return Map(self.parts.clone(), self.domain)


@torch.no_grad()
def row_slopes(
    head: Head, rows: Float[Tensor, "tokens dim"], targets: Int[Tensor, " tokens"]
) -> Float[Tensor, "tokens dim"]:
    """The gradient of each target's NLL by its row: ``(p - onehot(target)) E``.

    Scores and probabilities are written into the same two buffers chunk after chunk: on a CPU,
    fresh memory for them costs more than the arithmetic.
    """
    slope = torch.empty_like(rows)
    shape = (min(head.chunk_tokens, len(rows)), len(head.weight))
    buffers = [rows.new_empty(shape) for _ in range(2)]
    for part in head.chunks(len(rows)):
        scores, chance = (buffer[: part.stop - part.start] for buffer in buffers)
        torch.mm(rows[part], head.weight.T, out=scores)
        head.finish_(scores)
        torch.softmax(scores, -1, out=chance)
        pulled = head.weight[targets[part]]
        if head.softcap is not None:
            cap_slope = scores.div_(head.softcap).square_().neg_().add_(1.0)
            pulled = pulled * cap_slope.gather(1, targets[part, None])
            chance *= cap_slope
        torch.mm(chance, head.weight, out=slope[part])
        slope[part] -= pulled
    return slope.mul_(head.scale) if head.scale != 1.0 else slope


def mean_nll(head: Head, states: States, learned: Map | None) -> float:
    """The weighted mean NLL in nats per token, each text at its labels; None: the base model."""
    dtype = head.weight.dtype
    total = weight = 0.0
    for block in states.blocks():
        rows = block.hidden if learned is None else learned.rows(block, dtype)
        nll = token_nll(head, rows, block.targets)
        total += float((nll * block.weights).sum())
        weight += float(block.weights.sum())
    total, weight = states.workers.add_numbers(total, weight, device=states.device)
    return total / weight


@torch.no_grad()
def gradient(head: Head, states: States, learned: Map) -> Float[Tensor, "parts dim dim"]:
    """The gradient of the weighted mean NLL of `states` by each matrix."""
    dtype = head.weight.dtype
    total = torch.zeros_like(learned.parts)
    weight = states.weights.new_zeros(1)
    for block in states.blocks():
        slope = row_slopes(head, learned.rows(block, dtype), block.targets)
        slope *= block.weights[:, None].to(dtype)
        hidden = block.hidden.to(dtype)
        for part, value in zip(total, block.values(domain=learned.domain).T, strict=True):
            part += ((hidden * value[:, None].to(dtype)).T @ slope).float()
        weight += block.weights.sum()
    states.workers.add(total, weight)
    return total.div_(weight)
