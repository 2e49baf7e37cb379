"""The style of a text: the strength at which it is likeliest. It makes a steer a classifier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..states import SHOWN, Progress
from ..steer import Steer
from .likelihood import Likelihood, likelihood

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

STRENGTHS = (-5.0, -3.0, -1.0, 1.0, 3.0, 5.0)
FINE = 201
DROP = 1.92
"""How far the log-likelihood falls within the interval: half the 95% point of chi-square with one
degree of freedom."""


@dataclass(frozen=True)
class StyleValue:
    """How a steer finds a text.

    Args:
        value: The strength at which the text is likeliest. It is the end of the strengths tried
            where the likelihood still grows there, and 0 for a text without any token to judge.
        low: The strength below `value` at which the log-likelihood has fallen by 1.92. It would be
            the end of a 95% interval if tokens were independent given the text; they are not, so
            the true uncertainty is larger.
        high: The same strength above `value`.
        tokens: The number of tokens that were judged.
        strengths: The strengths that were tried.
        curve: The log-likelihood at each strength minus that at the best of them, in nats.
        probability: The probability of the label +1 against -1, by Bayes with even odds from the
            text's likelihood at strengths +1 and -1.
    """

    value: float
    low: float
    high: float
    tokens: int
    strengths: tuple[float, ...]
    curve: tuple[float, ...]
    probability: float


def style_value(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    steer: Steer,
    texts: Sequence[str],
    *,
    strengths: Sequence[float] = STRENGTHS,
    domain: bool = True,
    progress: Progress | None = SHOWN,
) -> list[StyleValue]:
    """The strength at which each text is likeliest, its curve, and the probability of its label.

    The log-likelihood is smooth and concave in the strength (for a head without soft-cap), so it
    has one maximum; between the strengths it is interpolated by a cubic spline (to 0.05, tested).

    Args:
        model: A causal language model, whose trunk reads each text once.
        tokenizer: The tokenizer of the model.
        steer: A steer at the output site, learned on `model`.
        texts: The texts to read; each is cut at the model's context.
        strengths: Three strengths or more, rising, from -1 or below to 1 or above.
        domain: Whether the domain part is on at every strength, as it was in training.
        progress: How the work reports how far it is, as for `lmsteer.generate`.

    Source: Han et al. 2024, section 5 (the style of a text by the strength that scores it best).
    """
    wanted = [float(s) for s in strengths]
    if len(wanted) < 3 or wanted != sorted(set(wanted)) or wanted[0] > -1 or wanted[-1] < 1:
        raise InputError(
            "strengths must be at least three, rising, from -1 or below to 1 or above, were: "
            f"{wanted}"
        )
    read = likelihood(
        model,
        tokenizer,
        steer,
        texts,
        sorted({*wanted, -1.0, 1.0}),
        domain=domain,
        progress=progress,
    )
    return values_in(read, len(texts), wanted)


def values_in(read: Likelihood | None, texts: int, strengths: Sequence[float]) -> list[StyleValue]:
    """The style values of texts whose likelihood is known at `strengths` and at -1 and 1."""
    found = [_value(np.zeros(len(strengths)), 0, strengths, 0.0)] * texts
    if read is None:
        return found
    places = [read.strengths.index(s) for s in strengths]
    odds = read.column(1.0) - read.column(-1.0)
    for number, rows, ratio in zip(
        read.encoded.source, read.by_text(read.tokens), read.by_text(odds), strict=True
    ):
        found[number] = _value(rows.sum(0)[places], len(rows), strengths, float(ratio.sum()))
    return found


def _value(curve: np.ndarray, count: int, strengths: Sequence[float], odds: float) -> StyleValue:
    from scipy.interpolate import CubicSpline

    chance = 1 / (1 + math.exp(-max(-700.0, min(700.0, odds))))
    low = high = value = 0.0
    fine = np.linspace(strengths[0], strengths[-1], FINE)
    if count:
        smooth = CubicSpline(strengths, curve)(fine)
        best = int(smooth.argmax())
        likely = fine[smooth >= smooth[best] - DROP]
        value, low, high = float(fine[best]), float(likely[0]), float(likely[-1])
    else:
        low, high = float(fine[0]), float(fine[-1])
    shown = tuple(float(x) for x in curve - curve.max())
    return StyleValue(value, low, high, count, tuple(strengths), shown, chance)
