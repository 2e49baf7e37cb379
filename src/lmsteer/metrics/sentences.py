"""What given text costs a model as it stands, steers and all; and whether it prefers good grammar.

`perplexity` judges sampled text by the unsteered model; this judges a steered model by text that
people wrote: what of its ability is kept at a strength.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..errors import InputError, MismatchError
from ..model import context_length, decoder_start
from ..states import target_losses
from ..text import batch_texts, encode_pairs, pad_batch
from .estimates import Estimate, bootstrap

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENS_AT_ONCE = 4096


@torch.no_grad()
def text_losses(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    prompts: Sequence[str] | None = None,
) -> list[np.ndarray]:
    """NLL in nats of each token of each text, with whatever is attached to the model.

    Args:
        model: A causal language model, or whatever has its forward; strengths that differ by row
            are not for this: it orders the texts by length.
        tokenizer: The model's own.
        texts: Any; those cut to the model's context lose their ends.
        prompts: Read before each text and not scored. Without one, the first token of a text
            counts only where the tokenizer begins texts with a token of its own.

    Returns:
        For each text ``(its tokens,)``, in order; empty where nothing could be scored.
    """
    context = context_length(model)
    encoded = encode_pairs(
        tokenizer,
        list(prompts) if prompts is not None else [""] * len(texts),
        texts,
        max_length=context,
        decoder_start=decoder_start(model),
    )
    found = [np.zeros(0)] * len(texts)
    for rows in batch_texts(encoded, TOKENS_AT_ONCE):
        batch = pad_batch(encoded, rows)
        losses = target_losses(model, batch).cpu().double()
        counts = batch.is_target.sum(1).tolist()
        for row, part in zip(rows, losses.split(counts), strict=True):
            found[encoded.source[row]] = part.numpy()
    return found


def text_perplexity(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    prompts: Sequence[str] | None = None,
) -> Estimate:
    """Exponential of the mean of `text_losses`; the interval is over texts, the count of tokens."""
    losses = text_losses(model, tokenizer, texts, prompts)
    columns = np.array([[part.sum(), len(part)] for part in losses]).reshape(-1, 2)
    return bootstrap(
        columns,
        lambda s: np.exp(s[..., 0] / s[..., 1]),
        list(range(len(losses))),
        count=int(columns[:, 1].sum()),
    )


def acceptability(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    sentences: Sequence[str],
    good: Sequence[bool],
) -> Estimate:
    """How well likelihood tells acceptable sentences from others: AUC, 0.5 for chance.

    The score of a sentence is its mean log-probability a token (Lau et al. 2017), so that length
    has no say.

    Args:
        model: A causal language model, steered or not.
        tokenizer: Its own.
        sentences: Of both kinds.
        good: Whether each is acceptable.

    Raises:
        MismatchError: Another number of verdicts than sentences.
        InputError: All of one kind.
    """
    from sklearn.metrics import roc_auc_score

    if len(sentences) != len(good):
        raise MismatchError(f"got {len(good)} verdicts for {len(sentences)} sentences")
    if len(set(map(bool, good))) != 2:
        raise InputError("the AUC needs acceptable sentences and others; all are of one kind")
    losses = text_losses(model, tokenizer, sentences)
    scored = [i for i, part in enumerate(losses) if len(part)]
    scores = np.array([-losses[i].mean() for i in scored])
    truth = np.array([bool(good[i]) for i in scored])
    value = float(roc_auc_score(truth, scores))
    random = np.random.default_rng(0)
    drawn: list[float] = []
    while len(drawn) < 200:
        index = random.integers(0, len(scored), len(scored))
        if truth[index].any() and not truth[index].all():
            drawn.append(roc_auc_score(truth[index], scores[index]))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(value, len(scored), float(low), float(high))
