"""Generated text as tokens, for the metrics that score tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from ..model import context_length, decoder_start
from ..text import Encoded, encode_pairs

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..generation import Generation


def encode_records(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    records: Sequence[Generation],
) -> tuple[Encoded, list[int]]:
    """Records as tokens, each text's own tokens the targets; text past the context is cut.

    Returns:
        The texts that have a target, and how many targets each record has (an empty text none).
    """
    context = context_length(model)
    encoded = encode_pairs(
        tokenizer,
        [r.prompt for r in records],
        [r.text for r in records],
        max_length=context,
        decoder_start=decoder_start(model),
    )
    counts = torch.zeros(len(records), dtype=torch.int64)
    counts[encoded.source] = encoded.target_counts
    return encoded, counts.tolist()
