"""How far a steer moves the next-token distribution: the exact KL(P_s || P_0)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..model import Head, attach, check_everywhere, read_head
from ..states import read_states
from ..steer import Steer, change
from ..text import Batch, Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.no_grad()
def text_divergence(
    model: PreTrainedModel, encoded: Encoded, steer: Steer, strengths: Sequence[float]
) -> dict[float, float]:
    """KL(P_s || P_0) at each strength, mean over the targets of texts, in nats per token.

    At the output site one pass of the trunk serves all strengths. At the input site each strength
    takes a pass; a steer that acts on prompts alone then steers the prompts alone.

    Args:
        model: The model of the steer.
        encoded: The texts.
        steer: The steer; its domain part is not used.
        strengths: Signed strengths.
    """
    if steer.site == "output":
        check_everywhere(steer, "measuring its divergence at the output site")
    head, hidden = read_head(model), read_states(model, encoded).hidden
    if steer.site == "output":
        return divergence(head, hidden, steer, strengths)
    total = dict.fromkeys(strengths, 0.0)
    for strength in strengths:
        if strength == 0.0:
            continue

        def steered(batch: Batch, strength: float = strength) -> Any:
            # A whole text is read in one call, which cannot know by itself where its prompt ends.
            where = "all" if steer.where == "all" else batch.is_prompt
            return attach(model, {steer: strength}, where=where)

        moved = read_states(model, encoded, within=steered).hidden
        (total[strength],) = _means(head, hidden, moved - hidden, [1.0])
    return total


@torch.no_grad()
def divergence(
    head: Head, hidden: Float[Tensor, "tokens dim"], steer: Steer, strengths: Sequence[float]
) -> dict[float, float]:
    """KL(P_s || P_0) at each strength, mean over the rows of `hidden`, in nats per token.

    It is exact over the whole vocabulary. The head is multiplied twice, however many strengths
    there are.

    Args:
        head: The head of the model.
        hidden: Unsteered hidden states.
        steer: A steer at the output site.
        strengths: Signed strengths.
    """
    added = change(hidden, steer.P.to(hidden), steer.Q.to(hidden))
    wanted = [strength for strength in strengths if strength != 0.0]
    means = dict(zip(wanted, _means(head, hidden, added, wanted), strict=True))
    return {strength: means.get(strength, 0.0) for strength in strengths}


def _means(
    head: Head,
    hidden: Float[Tensor, "tokens dim"],
    added: Float[Tensor, "tokens dim"],
    strengths: Sequence[float],
) -> list[float]:
    """The KL of rows with ``strength * added`` from those without, mean over the rows.

    Before the head's bias, scale and soft-cap the scores are linear in the rows, so those of every
    strength follow from two products. The vocabulary is taken in blocks.
    """
    totals = [0.0] * len(strengths)
    for part in head.rows_for_blocks(len(hidden)):
        base, *steered = (_Sums(hidden[part]) for _ in range(len(strengths) + 1))
        for block in head.blocks():
            few = head.part(block)
            raw, slope = (rows[part] @ few.weight.T for rows in (hidden, added))
            unsteered = few.finish_(raw.clone())
            base.add(unsteered, None)
            for sums, strength in zip(steered, strengths, strict=True):
                scores = few.finish_(torch.add(raw, slope, alpha=strength))
                sums.add(scores, unsteered)
        for number, sums in enumerate(steered):
            # The sum over tokens of p_s (log p_s - log p_0).
            kl = sums.shift / sums.mass + base.log_mass() - sums.log_mass()
            totals[number] += float(kl.sum())
    return [total / len(hidden) for total in totals]


class _Sums:
    """Sums over the blocks of a vocabulary, for each row, that do not overflow."""

    def __init__(self, rows: Float[Tensor, "rows dim"]) -> None:
        zeros = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
        self.top = zeros - torch.inf
        self.mass = zeros
        """The sum of ``exp(score - top)``."""
        self.shift = zeros
        """The sum of ``exp(score - top) (score - unsteered score)``."""

    def add(self, scores: Float[Tensor, "rows block"], unsteered: Tensor | None) -> None:
        """Take a block in; `scores` are written over."""
        top = torch.maximum(scores.amax(-1).double(), self.top)
        kept = (self.top - top).exp()
        share = (scores - top[:, None].float()).exp_()
        self.mass = self.mass * kept + share.sum(-1).double()
        if unsteered is not None:
            self.shift = self.shift * kept + share.mul_(scores.sub_(unsteered)).sum(-1).double()
        self.top = top

    def log_mass(self) -> Float[Tensor, " rows"]:
        """The logarithm of the sum of ``exp(score)``."""
        return self.top + self.mass.log()
