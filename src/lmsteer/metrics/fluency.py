"""Perplexity of continuations under a model, given their prompts; nothing is dropped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..model import read_head, token_nll
from ..states import read_states
from .estimates import Estimate, bootstrap
from .records import encode_records

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..generation import Generation


def token_losses(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    records: Sequence[Generation],
    *,
    fast: bool = False,
) -> list[np.ndarray]:
    """For each record, the NLL in nats of each token of its text, given its prompt.

    `fast` runs the trunk in bf16 where the hardware has products of it: a perplexity moves by about
    0.01%, a single token's loss by a few percent of a nat.
    """
    encoded, counts = encode_records(model, tokenizer, records)
    if not len(encoded):
        return [np.zeros(0)] * len(records)
    states = read_states(model, encoded, fast=fast)
    nll = token_nll(read_head(model), states.hidden.float(), states.targets).cpu().double().numpy()
    return np.split(nll, np.cumsum(counts)[:-1])


def perplexity(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    records: Sequence[Generation],
    *,
    fast: bool = False,
) -> Estimate:
    """Perplexity of the continuations under `model`: exp of the mean NLL over all their tokens.

    Args:
        model: Any causal language model, steered or not; give the unsteered one to measure
            fluency as the paper does.
        tokenizer: That model's own, which need not be the one that generated.
        records: Generated text with prompts.
        fast: In bf16 where the hardware has it; see `token_losses`.

    Returns:
        The estimate; `Estimate.count` is the number of tokens.
    """
    losses = token_losses(model, tokenizer, records, fast=fast)
    columns = np.array([[part.sum(), len(part)] for part in losses]).reshape(-1, 2)
    return bootstrap(
        columns,
        lambda s: np.exp(s[..., 0] / s[..., 1]),
        [record.prompt for record in records],
        count=int(columns[:, 1].sum()),
    )
