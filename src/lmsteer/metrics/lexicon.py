"""Sentiment by a lexicon: VADER (Hutto and Gilbert 2014), which no steer learns from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def lexicon_scores(texts: Sequence[str]) -> np.ndarray:
    """VADER's compound scores in [-1, 1], ``(texts,)``; 0 where no word of the lexicon occurs."""
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    analyser = SentimentIntensityAnalyzer()
    return np.array([analyser.polarity_scores(text)["compound"] for text in texts], dtype=float)
