"""The linear language model: ``P(v | c) = c . e_v / sum_u c . e_u``, and a steer in it.

The hidden state c is the predictive belief under pi alone, and e_v the emission column of word v. A
steer acts as everywhere in this library: a row c becomes ``c + strength * c @ W``.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64

from .contexts import Contexts
from .fitting import mean_kl
from .hmm import Array, Hmm


def steered_chances(
    beliefs: Float64[Array, "contexts states"],
    emissions: Float64[Array, "states vocab"],
    W: Float64[Array, "states states"],
    strength: float = 1.0,
) -> Float64[Array, "contexts vocab"]:
    """The next word's chances under a steer.

    A map with negative entries can make scores negative: then these sum to 1 but are no chances.
    """
    scores = (beliefs + strength * beliefs @ W) @ emissions
    return np.asarray(scores / scores.sum(1, keepdims=True))


def log_probability(
    language: Hmm,
    texts: Int64[Array, "texts length"],
    W: Float64[Array, "states states"],
    strength: float = 1.0,
) -> Float64[Array, " texts"]:
    """Log-probability of each text in nats, word by word, steered alike at every step."""
    total = np.zeros(len(texts))
    for place, words in enumerate(texts.T):
        beliefs = language.beliefs(texts[:, :place])
        chances = steered_chances(beliefs, language.emissions, W, strength)
        total += np.log(chances[np.arange(len(texts)), words])
    return total


def linear_kl(
    base: Hmm, truth: Hmm, W: Float64[Array, "states states"], contexts: Contexts
) -> float | None:
    """KL of the truth from the steered linear model, in nats per word.

    None where a context's scores are not all positive: the steered model is no distribution.
    """
    chances = steered_chances(contexts.beliefs(base), base.emissions, W)
    if not (chances > 0).all():
        return None
    return mean_kl(contexts.weights(truth), contexts.chances(truth), np.log(chances))
