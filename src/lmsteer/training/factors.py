"""The factors of a map on the input embeddings, while they are being learned."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..model import changed_inputs
from ..steer import Steer, change
from ..text import Batch

RANK = 32


@dataclass(eq=False)
class Factors:
    """The factors being learned: those of the styles, then the domain's if there is one.

    Args:
        P: The first factors, ``(parts, dim, rank)``.
        Q: The second factors, ``(parts, dim, rank)``.
        domain: Whether the last part is the domain, which is always at strength 1.
        prompt_only: Whether the prompts alone are changed.
    """

    P: Float[Tensor, "parts dim rank"]
    Q: Float[Tensor, "parts dim rank"]
    domain: bool
    prompt_only: bool

    def strengths(self, batch: Batch) -> Float[Tensor, "rows parts"]:
        """The strength of each part on each row."""
        values = batch.labels.to(self.P.device)
        if self.domain:
            values = torch.cat([values, torch.ones_like(values[:, :1])], dim=1)
        return values

    def reading(self, model: nn.Module, batch: Batch) -> contextlib.AbstractContextManager[None]:
        """Within the block, the model reads this batch steered, each text at its own labels."""
        values = self.strengths(batch)
        mask: Tensor | None = None
        if self.prompt_only:
            mask = batch.is_prompt[..., None]

        def steered(rows: Tensor) -> Tensor:
            shift = torch.zeros_like(rows)
            for P, Q, value in zip(self.P, self.Q, values.T, strict=True):
                part = change(rows, P.to(rows), Q.to(rows))
                shift = shift + value.to(rows)[:, None, None] * part
            if mask is not None:
                shift = shift * mask.to(rows)
            return rows + shift

        return changed_inputs(model, steered)

    @torch.no_grad()
    def keep_short(self, rows: Float[Tensor, "rows dim"], guard: float) -> None:
        """Scale down every part whose change is longer than `guard` times the rows, on average."""
        length = rows.norm(dim=-1).mean()
        for P, Q in zip(self.P, self.Q, strict=True):
            ratio = float(change(rows, P, Q).norm(dim=-1).mean() / length.clamp_min(1e-30))
            if ratio > guard:
                Q.mul_(guard / ratio)

    def copy(self) -> Factors:
        """A copy that later steps do not change."""
        P, Q = self.P.detach().clone(), self.Q.detach().clone()
        return Factors(P, Q, self.domain, self.prompt_only)


def first_factors(
    dim: int,
    parts: int,
    rank: int | None,
    domain: bool,
    prompt_only: bool,
    seed: int,
    start: Steer | None,
    device: torch.device,
) -> Factors:
    """The factors to begin with: P at random and Q at 0 (the base model), or those of a steer."""
    width = rank or (RANK if start is None else start.rank)
    width = min(width, dim)
    generator = torch.Generator().manual_seed(seed)
    P = torch.randn(parts, dim, width, generator=generator) / dim**0.5
    Q = torch.zeros(parts, dim, width)
    known = [] if start is None else [(0, start), (parts - 1, start.domain)]
    for place, steer in known:
        if steer is not None and (place == 0 or domain):
            cut = steer if steer.rank <= width else steer.truncate(width)[0]
            P[place, :, : cut.rank], Q[place, :, : cut.rank] = cut.P, cut.Q
    return Factors(P.to(device), Q.to(device), domain, prompt_only)
