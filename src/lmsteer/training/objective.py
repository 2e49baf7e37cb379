"""The training objective on frozen hidden states, with its gradient in closed form.

A text labelled y is scored under ``h + y h W + h D``: W the style, D the domain (the paper's
"dummy" steer, always at strength 1). With h fixed the scores are linear in (W, D), so the loss
is convex in them (for a head without soft-cap).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..head import Head
from ..hidden import States


@dataclass(eq=False)
class Map:
    """The two matrices being learned, ``(dim, dim)`` each; `domain` may be None."""

    style: Float[Tensor, "dim dim"]
    domain: Float[Tensor, "dim dim"] | None

    @classmethod
    def zeros(cls, dim: int, *, domain: bool, like: Tensor) -> Map:
        """Both at zero: the base model."""
        return cls(like.new_zeros(dim, dim), like.new_zeros(dim, dim) if domain else None)

    def rows(self, states: States) -> Float[Tensor, "tokens dim"]:
        """Steered hidden rows of `states`, each at its own label."""
        hidden = states.hidden
        change = (hidden * states.labels[:, None]) @ self.style
        if self.domain is not None:
            change += hidden @ self.domain
        return change.add_(hidden)

    def stacked(self) -> Float[Tensor, "inputs dim"]:
        """``[style; domain]``, or the style alone."""
        return self.style if self.domain is None else torch.cat([self.style, self.domain])

    @classmethod
    def unstacked(cls, matrix: Float[Tensor, "inputs dim"], domain: bool) -> Map:
        """The map whose `stacked` is `matrix`."""
        return cls(*matrix.chunk(2)) if domain else cls(matrix, None)

    def clone(self) -> Map:
        """A copy that later steps do not touch."""
        return Map(self.style.clone(), None if self.domain is None else self.domain.clone())


@torch.no_grad()
def token_nll(
    head: Head,
    rows: Float[Tensor, "tokens dim"],
    targets: Int[Tensor, " tokens"],
    *,
    gradient: bool = False,
) -> tuple[Float[Tensor, " tokens"], Float[Tensor, "tokens dim"] | None]:
    """Negative log-likelihood of each target, in nats, and its gradient in the hidden rows.

    The vocabulary is never held for more than a chunk of the tokens. With a bf16 head
    (`Head.fast`) scores and slopes are rounded to about 0.4%; sums stay in float32.
    """
    nll = rows.new_empty(len(rows))
    slope = torch.empty_like(rows) if gradient else None
    for part in head.chunks(len(rows)):
        goal = targets[part, None]
        scores = head.logits(rows[part].to(head.weight.dtype))
        log_chance = scores.log_softmax(-1, dtype=torch.float32)
        nll[part] = -log_chance.gather(1, goal)[:, 0]
        if slope is None:
            continue
        if head.softcap is not None:
            cap_slope = 1.0 - (scores.float() / head.softcap).square()
        error = log_chance.exp_()  # becomes p - onehot(target), the slope in the scores
        error.scatter_add_(1, goal, error.new_full(goal.shape, -1.0))
        if head.softcap is not None:
            error *= cap_slope
        slope[part] = (error.to(head.weight.dtype) @ head.weight).float() * head.scale
    return nll, slope


def mean_nll(head: Head, states: States, learned: Map | None) -> float:
    """Weighted mean NLL in nats a token, each text at its own label; None is the base model."""
    rows = states.hidden if learned is None else learned.rows(states)
    nll, _ = token_nll(head, rows, states.targets)
    return float((nll * states.weights).sum() / states.weights.sum())


def gradient(head: Head, states: States, learned: Map) -> tuple[float, Map]:
    """Weighted mean NLL of `states`, and its gradient in both matrices."""
    nll, slope = token_nll(head, learned.rows(states), states.targets, gradient=True)
    assert slope is not None
    share = states.weights / states.weights.sum()
    slope *= share[:, None]
    style = (states.hidden * states.labels[:, None]).T @ slope
    domain = None if learned.domain is None else states.hidden.T @ slope
    return float((nll * share).sum()), Map(style, domain)
