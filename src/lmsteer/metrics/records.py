"""Generated text as tokens, for what measures tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..states import encode_for
from ..text import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..generation import Generation


def encode_records(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, records: Sequence[Generation]
) -> Encoded:
    """Records as tokens that the model can read; the targets are the tokens after each prompt."""
    texts, prompts = [r.text for r in records], [r.prompt for r in records]
    return encode_for(model, tokenizer, texts, prompts)
