"""A text's own style: the strength at which it is likeliest; hence the steer as a classifier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..encoding import encode_pairs
from ..errors import InputError
from ..head import text_config
from ..hidden import Progress, read_head, read_states
from ..steer import Steer
from ..training.objective import token_nll
from .spans import check_readable

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

STRENGTHS = tuple(float(s) for s in np.linspace(-5, 5, 21))
DROP = 1.92
"""Half the 95% point of chi-square with one degree of freedom: the interval's log-likelihood."""


@dataclass(frozen=True)
class StyleValue:
    """How a steer finds a text.

    Args:
        value: The strength at which the text is likeliest; at an end of the strengths tried when
            the likelihood still grows there, 0 for a text without any token to judge.
        low: Where, below it, the log-likelihood has fallen by 1.92 (a 95% interval if tokens were
            independent given the text; they are not, so read it as the least that is uncertain).
        high: The same above it.
        tokens: How many were judged.
        strengths: That were tried.
        curve: Log-likelihood at each, in nats, less that of the best of them.
        probability: Of the label +1 against -1, by Bayes with even odds: the text's likelihood at
            strengths +1 and -1.
    """

    value: float
    low: float
    high: float
    tokens: int
    strengths: tuple[float, ...]
    curve: tuple[float, ...]
    probability: float


def style_value(
    steer: Steer,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    strengths: Sequence[float] = STRENGTHS,
    domain: bool = True,
    progress: Progress | None = None,
) -> list[StyleValue]:
    """The strength at which each text is likeliest, its curve, and the probability of its label.

    The log-likelihood is concave in the strength (for a head without soft-cap), so it has one
    maximum; it is interpolated between the strengths by a parabola.

    Args:
        steer: At the output site, learned on `model`.
        model: A causal language model; its trunk reads each text once.
        tokenizer: The model's own.
        texts: Any; cut at the model's context.
        strengths: At least three, rising, from below -1 to above 1.
        domain: With the domain part on at every strength, as it was when the steer learned.
        progress: Called as ``progress("read", done, total)``.

    Source: Han et al. 2024, section 5 (the style of a text by the strength that scores it best).
    """
    wanted = [float(s) for s in strengths]
    if len(wanted) < 3 or wanted != sorted(set(wanted)) or wanted[0] > -1 or wanted[-1] < 1:
        raise InputError(
            f"strengths must be at least three, rising, from -1 or below to 1 or above: {wanted}"
        )
    check_readable(steer, model)
    scored = sorted({*wanted, -1.0, 1.0})
    totals = np.zeros((len(texts), len(scored)))
    counts = np.zeros(len(texts), dtype=int)
    context = getattr(text_config(model), "max_position_embeddings", None)
    encoded = encode_pairs(tokenizer, [""] * len(texts), texts, max_length=context)
    if len(encoded):
        states = read_states(model, encoded, progress=progress)
        head, hidden = read_head(model), states.hidden
        change = (hidden @ steer.P.to(hidden)) @ steer.Q.T.to(hidden)
        if domain and steer.domain is not None:
            part = steer.domain
            hidden = hidden + (hidden @ part.P.to(hidden)) @ part.Q.T.to(hidden)
        source = torch.tensor(encoded.source)
        for column, strength in enumerate(scored):
            nll = token_nll(head, hidden + strength * change, states.targets).double().cpu()
            found = torch.zeros(len(texts), dtype=torch.float64)
            totals[:, column] = -found.index_add(0, source[states.text.cpu()], nll).numpy()
        counts[encoded.source] = encoded.target_counts.numpy()
    places = [scored.index(s) for s in wanted]
    sides = scored.index(1.0), scored.index(-1.0)
    return [
        _value(row[places], int(count), wanted, float(row[sides[0]] - row[sides[1]]))
        for row, count in zip(totals, counts, strict=True)
    ]


def _value(curve: np.ndarray, count: int, strengths: list[float], odds: float) -> StyleValue:
    chance = 1 / (1 + math.exp(-max(-700.0, min(700.0, odds))))
    if not count:
        ends = (strengths[0], strengths[-1])
        flat = tuple(0.0 for _ in strengths)
        return StyleValue(0.0, *ends, 0, tuple(strengths), flat, 0.5)
    best = int(curve.argmax())
    value, top = strengths[best], float(curve[best])
    if 0 < best < len(strengths) - 1:
        near = slice(best - 1, best + 2)
        a, b, c = np.polyfit(strengths[near], curve[near], 2)
        if a < 0:
            value, top = float(-b / (2 * a)), float(c - b * b / (4 * a))
    low, high = (_crossing(strengths, curve, best, step, top - DROP) for step in (-1, 1))
    return StyleValue(
        value,
        min(low, value),
        max(high, value),
        count,
        tuple(strengths),
        tuple(float(x) for x in curve - curve.max()),
        chance,
    )


def _crossing(
    strengths: list[float], curve: np.ndarray, best: int, step: int, level: float
) -> float:
    """Where the curve falls below `level` on one side; the end of the strengths if nowhere."""
    place = best
    while 0 <= place + step < len(strengths):
        inner, outer = float(curve[place]), float(curve[place + step])
        if outer < level:
            share = max(0.0, (inner - level) / (inner - outer)) if inner > outer else 0.0
            return strengths[place] + share * (strengths[place + step] - strengths[place])
        place += step
    return strengths[place]
