"""The negative log-likelihood of texts under a model: the one place where texts are scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ..model import (
    context_length,
    decoder_start,
    input_device,
    read_head,
    token_nll,
)
from ..text import Batch, Encoded, batch_texts, encode_pairs, pad_batch
from .hidden import read_states

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The number of ids and pads in a batch of the model's own forward pass, which holds the scores of
# all of them at once; fewer where the vocabulary is large.
_TOKENS_AT_ONCE, _SCORES_AT_ONCE = 4096, 1 << 26


def encode_for(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    prompts: Sequence[str] | None = None,
) -> Encoded:
    """Texts as tokens that this model can read: cut to its context, with its decoder's start.

    Args:
        model: The model that will read them.
        tokenizer: The model's own.
        texts: The texts, whose own tokens are the targets.
        prompts: What is read before each text and is not a target; nothing by default.
    """
    return encode_pairs(
        tokenizer,
        [""] * len(texts) if prompts is None else list(prompts),
        texts,
        max_length=context_length(model),
        decoder_start=decoder_start(model),
    )


def target_losses(model: nn.Module, batch: Batch) -> Float[Tensor, " targets"]:
    """The NLL in nats of each target by the model's own forward pass, with whatever acts on it."""
    logits = model(**batch.inputs(input_device(model)), use_cache=False).logits[:, :-1]
    wanted = batch.is_target[:, 1:].to(logits.device)
    targets = batch.input_ids[:, 1:].to(logits.device)[wanted]
    return cross_entropy(logits[wanted].float(), targets, reduction="none")


@torch.no_grad()
def text_losses(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    prompts: Sequence[str] | None = None,
    *,
    attached: bool = True,
    fast: bool = False,
) -> list[np.ndarray]:
    """The NLL in nats of each token of each text.

    Args:
        model: A causal language model, or anything with the same forward pass. Strengths that
            differ by row cannot be attached: the texts are ordered by length.
        tokenizer: The model's own.
        texts: Any texts; those that are cut to the model's context lose their ends.
        prompts: What is read before each text and is not scored. Without a prompt, the first token
            of a text counts only where the tokenizer begins texts with a token of its own.
        attached: Score by the model's own forward pass, with whatever is attached to it. Otherwise
            the trunk is read once, and its states are scored by the head without steers, which
            needs less memory.
        fast: Compute in bf16 where the hardware has products of it, if not `attached`: the trunk
            and the head. A perplexity moves by a few tenths of a percent, the loss of a single
            token by a few hundredths of a nat on average.

    Returns:
        For each text an array ``(tokens,)``, in order; it is empty where nothing can be scored.
    """
    encoded = encode_for(model, tokenizer, texts, prompts)
    found = [np.zeros(0)] * len(texts)
    if not len(encoded):
        return found
    if not attached:
        states = read_states(model, encoded, fast=fast)
        head = read_head(model).fast() if fast else read_head(model)
        nll = token_nll(head, states.hidden, states.targets)
        for text, part in zip(encoded.source, encoded.by_text(_numbers(nll)), strict=True):
            found[text] = part
        return found
    at_once = min(_TOKENS_AT_ONCE, _SCORES_AT_ONCE // max(1, len(tokenizer)))
    for rows in batch_texts(encoded, at_once):
        losses = _numbers(target_losses(model, pad_batch(encoded, rows)))
        for row, part in zip(rows, encoded.only(rows).by_text(losses), strict=True):
            found[encoded.source[row]] = part
    return found


def _numbers(losses: Tensor) -> np.ndarray:
    numbers: np.ndarray = losses.cpu().double().numpy()
    return numbers
