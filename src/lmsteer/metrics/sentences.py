"""How well a steered model predicts given text, and whether it prefers good grammar.

`perplexity` judges sampled text by the unsteered model. This file judges a steered model by text
that people wrote: how much of its ability is left at a strength.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, MismatchError
from ..states import text_losses
from .estimates import Estimate
from .fluency import exponential_of_mean

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def text_perplexity(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    prompts: Sequence[str] | None = None,
) -> Estimate:
    """The exponential of the mean of `text_losses`; `Estimate.count` is the number of tokens."""
    losses = text_losses(model, tokenizer, texts, prompts)
    return exponential_of_mean(losses, list(range(len(losses))))


def acceptability(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    sentences: Sequence[str],
    good: Sequence[bool],
) -> Estimate:
    """How well likelihood tells acceptable sentences from others: AUC, 0.5 for chance.

    The score of a sentence is its mean log-probability per token (Lau et al. 2017), so that its
    length does not matter.

    Args:
        model: A causal language model, steered or not.
        tokenizer: The model's own.
        sentences: Acceptable sentences and others.
        good: Whether each sentence is acceptable.

    Raises:
        MismatchError: There are not as many verdicts as sentences.
        InputError: All sentences are of one kind.
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
