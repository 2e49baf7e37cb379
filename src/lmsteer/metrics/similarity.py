"""MAUVE (Pillutla et al. 2021): how close generated text is to reference text, as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..errors import InputError, MissingExtraError
from ..model import read_hidden

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def mauve(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    references: Sequence[str],
    *,
    seed: int = 0,
) -> float:
    """MAUVE of `texts` against `references`, in (0, 1], by the package ``mauve-text``.

    The features are the last hidden state of each text under `model` (the paper took GPT-2
    large), so only numbers from the same model can be compared. Both sides need hundreds of
    texts for the number to mean anything.

    Raises:
        MissingExtraError: ``mauve-text`` is not installed.
        InputError: One side has fewer than two texts.
    """
    try:
        from mauve import compute_mauve
    except ImportError as error:
        raise MissingExtraError("mauve-text", "mauve", "MAUVE") from error
    if min(len(texts), len(references)) < 2:
        raise InputError(f"MAUVE needs texts on both sides, got {len(texts)}, {len(references)}")
    sides = [_features(model, tokenizer, side) for side in (texts, references)]
    found: Any = compute_mauve(
        p_features=sides[0], q_features=sides[1], seed=seed, verbose=False, mauve_scaling_factor=5
    )
    return float(found.mauve)


def _features(model: Any, tokenizer: Any, texts: Sequence[str]) -> np.ndarray:
    rows = []
    with torch.inference_mode():
        for text in texts:
            ids = tokenizer(text or " ", return_tensors="pt", truncation=True)["input_ids"]
            rows.append(read_hidden(model, input_ids=ids.to(model.device))[0, -1].float().cpu())
    return torch.stack(rows).numpy()
