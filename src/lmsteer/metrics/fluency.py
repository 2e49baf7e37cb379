"""The perplexity of continuations under a model, given their prompts; no text is left out."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..states import SHOWN, Progress, text_losses
from .estimates import Estimate, bootstrap

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..generation import Generation


def perplexity(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    records: Sequence[Generation],
    *,
    fast: bool = False,
    progress: Progress | None = SHOWN,
) -> Estimate:
    """The perplexity of the continuations: the exponential of the mean NLL over all their tokens.

    Args:
        model: Any causal language model; give the unsteered one to measure fluency as the paper
            does. A steer that is attached at the output site is left out.
        tokenizer: That model's own, which need not be the one that the texts were generated with.
        records: The generated texts with their prompts.
        fast: Compute in bf16 where the hardware has it; see `states.text_losses`.
        progress: How the work reports how far it is, as for `lmsteer.generate`.

    Returns:
        The estimate; `Estimate.count` is the number of tokens.
    """
    texts, prompts = [r.text for r in records], [r.prompt for r in records]
    losses = text_losses(
        model, tokenizer, texts, prompts, attached=False, fast=fast, progress=progress
    )
    return exponential_of_mean(losses, prompts)


def exponential_of_mean(losses: Sequence[np.ndarray], groups: Sequence[Hashable]) -> Estimate:
    """The perplexity: the exponential of the mean of all losses; the interval is over groups."""
    columns = np.array([[part.sum(), len(part)] for part in losses]).reshape(-1, 2)
    return bootstrap(
        columns,
        lambda s: np.exp(s[..., 0] / s[..., 1]),
        groups,
        count=int(columns[:, 1].sum()),
    )
