"""The log-likelihood of texts at many strengths, from one pass of the trunk and one of the head.

Scores are affine in the strength: ``l_0 + s l_1`` with ``l_1 = (h P)(E Q)^T`` of low rank. So each
strength after the first costs a sum of exponentials over the vocabulary, and no product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import UnsupportedError
from ..model import (
    Head,
    check_everywhere,
    check_fit,
    decoder_start,
    read_head,
    token_nll,
)
from ..states import SHOWN, Progress, States, encode_for, read_states, watched
from ..steer import Steer, change
from ..text import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, eq=False)
class Likelihood:
    """How likely a steered model finds texts.

    Args:
        encoded: The texts that have a token to judge.
        tokens: The log-probability of each target at each strength, ``(tokens, strengths)``, in
            nats, float64.
        strengths: The strength of each column.
    """

    encoded: Encoded
    tokens: np.ndarray
    strengths: tuple[float, ...]

    def column(self, strength: float) -> np.ndarray:
        """The log-probability of each target at one of the strengths, ``(tokens,)``."""
        found: np.ndarray = self.tokens[:, self.strengths.index(strength)]
        return found

    def by_text(self, values: np.ndarray) -> list[np.ndarray]:
        """The values as one array per text of `encoded`."""
        return self.encoded.by_text(values)


@watched
def likelihood(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    steer: Steer,
    texts: Sequence[str],
    strengths: Sequence[float],
    *,
    domain: bool,
    progress: Progress | None = SHOWN,
) -> Likelihood | None:
    """The log-probability of every token at every strength; None if no text has a token to judge.

    Raises:
        MismatchError: Another model's steer.
        UnsupportedError: A steer at the input site, or an encoder-decoder model.
    """
    check_fit(model, steer)
    if steer.site != "output":
        raise UnsupportedError(
            "a steer at the input site changes the trunk's states, so a text cannot be read from "
            "one pass; attach it and compare losses instead"
        )
    check_everywhere(steer, "reading a text")
    if decoder_start(model) is not None:
        raise UnsupportedError("steers of encoder-decoder models cannot be explained so far")
    encoded = encode_for(model, tokenizer, texts)
    if not len(encoded):
        return None
    states = read_states(model, encoded, progress=progress)
    parts = [steer.domain] if domain and steer.domain is not None else []
    head, wanted = read_head(model), tuple(map(float, strengths))
    found = _log_chances(head, states, steer, parts, wanted, progress)
    return Likelihood(encoded, found.cpu().double().numpy(), wanted)


_SCORES_AT_ONCE = 1 << 18


@torch.no_grad()
def _log_chances(
    head: Head,
    states: States,
    steer: Steer,
    always: Sequence[Steer],
    strengths: Sequence[float],
    progress: Progress | None,
) -> Tensor:
    hidden, targets = states.hidden.to(head.weight), states.targets
    plain, P, Q = hidden, steer.P.to(hidden), steer.Q.to(hidden)
    inner, directions = plain @ P, head.weight @ Q
    for part in always:
        hidden = part.shift(hidden, 1.0)
    found = torch.empty(len(hidden), len(strengths), device=hidden.device)
    # A few rows at a time: what all strengths read again and again stays in the cache.
    size = max(1, _SCORES_AT_ONCE // len(head.weight))
    for start in range(0, len(hidden), size):
        rows = slice(start, start + size)
        base = torch.nn.functional.linear(hidden[rows], head.weight, head.bias)
        slope = inner[rows] @ directions.T
        if head.softcap is None and head.scale != 1.0:
            base, slope = base * head.scale, slope * head.scale
        wanted = targets[rows, None]
        top = base.amax(1, keepdim=True)
        if head.softcap is None:
            base -= top  # shifts every score of a row alike
        for column, strength in enumerate(strengths):
            scores = torch.add(base, slope, alpha=strength)
            if head.softcap is not None:
                scores = head.finish(scores)
            chosen = scores.gather(1, wanted)
            total = scores.exp_().sum(1, keepdim=True)
            found[rows, column] = (chosen - total.log())[:, 0].float()
        if progress:
            progress("score", min(rows.stop, len(hidden)), len(hidden))
    far = ~torch.isfinite(found).all(1)
    if bool(far.any()):  # strengths that take scores out of what exp can hold
        for column, strength in enumerate(strengths):
            moved = hidden[far] + change(plain[far], P, Q, strength)
            found[far, column] = -token_nll(head, moved, targets[far])
    return found
