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
        for part in head.chunks(len(hidden)):
            base = head.logits(hidden[part]).log_softmax(-1)
            total[strength] += _summed(head, moved[part], base) / len(hidden)
    return total


@torch.no_grad()
def divergence(
    head: Head, hidden: Float[Tensor, "tokens dim"], steer: Steer, strengths: Sequence[float]
) -> dict[float, float]:
    """KL(P_s || P_0) at each strength, mean over the rows of `hidden`, in nats per token.

    It is exact over the whole vocabulary, and computed for a chunk of the rows at a time.

    Args:
        head: The head of the model.
        hidden: Unsteered hidden states.
        steer: A steer at the output site.
        strengths: Signed strengths.
    """
    added = change(hidden, steer.P.to(hidden), steer.Q.to(hidden))
    total = dict.fromkeys(strengths, 0.0)
    for part in head.chunks(len(hidden)):
        base = head.logits(hidden[part]).log_softmax(-1)
        for strength in strengths:
            if strength == 0.0:
                continue
            total[strength] += _summed(head, hidden[part] + strength * added[part], base)
    return {strength: value / len(hidden) for strength, value in total.items()}


def _summed(head: Head, moved: Tensor, base: Tensor) -> float:
    """The KL of the rows' distributions from log-probabilities `base`, summed over the rows."""
    steered = head.logits(moved).log_softmax(-1)
    return float((steered.exp() * (steered - base)).sum(dtype=torch.float64))
