"""How far a steer moves the next-token distribution: the exact KL(P_eps || P_0)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..model import Head, attach, check_everywhere, read_head
from ..states import read_states
from ..steer import Steer
from ..text import Batch, Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.no_grad()
def text_divergence(
    model: PreTrainedModel, encoded: Encoded, steer: Steer, strengths: Sequence[float]
) -> dict[float, float]:
    """KL(P_eps || P_0) at each strength, as a mean over the targets of texts, in nats per token.

    At the output site one pass of the trunk is enough. At the input site one pass per strength is
    needed; a steer of the prompt alone then steers the prompts.
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
    """KL(P_eps || P_0) at each strength, as a mean over the rows of `hidden`, in nats per token.

    It is exact, over the whole vocabulary, and computed for a chunk of the rows at a time.
    """
    change = (hidden @ steer.P.to(hidden)) @ steer.Q.T.to(hidden)
    total = dict.fromkeys(strengths, 0.0)
    for part in head.chunks(len(hidden)):
        base = head.logits(hidden[part]).log_softmax(-1)
        for strength in strengths:
            if strength == 0.0:
                continue
            total[strength] += _summed(head, hidden[part] + strength * change[part], base)
    return {strength: value / len(hidden) for strength, value in total.items()}


def _summed(head: Head, moved: Tensor, base: Tensor) -> float:
    """KL of these rows' distributions from those of log-probabilities `base`, summed."""
    steered = head.logits(moved).log_softmax(-1)
    return float((steered.exp() * (steered - base)).sum(dtype=torch.float64))
