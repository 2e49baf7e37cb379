"""Masks, for display, the words that the shipped toxicity scorer finds offensive by themselves."""

from __future__ import annotations

import re
from functools import lru_cache

from .scorers import Scorer, load_scorer

_OFFENSIVE = 0.75  # on a single word insults and slurs score near 1, plain words below 0.6
_WORD = re.compile(r"[\w*']+")


@lru_cache(maxsize=1)
def _scorer() -> Scorer:
    return load_scorer("toxicity")


def masked(text: str) -> str:
    """The text with each offensive word cut to its first letter and ``***``."""
    words = list(dict.fromkeys(_WORD.findall(text)))
    if not words:
        return text
    scores = dict(zip(words, _scorer()(words), strict=True))
    return _WORD.sub(lambda m: m[0][0] + "***" if scores[m[0]] > _OFFENSIVE else m[0], text)
