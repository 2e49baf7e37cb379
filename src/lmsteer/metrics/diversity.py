"""How varied continuations are, and how much they repeat themselves. Words are split at spaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from .estimates import Estimate, bootstrap

if TYPE_CHECKING:
    from ..generation import Generation


def distinct(records: Sequence[Generation], n: int) -> Estimate:
    """The number of distinct n-grams of a prompt's samples per word, as a mean over prompts.

    This is what DExperts and LM-Steer compute (Li et al. 2016, per prompt). The more samples a
    prompt has, the lower it is, so compare only at equal numbers of samples and tokens.

    Args:
        records: The generated texts of one strength.
        n: The length of the n-grams, at least 1.

    Raises:
        InputError: n is below 1, or no record has a word.
    """
    if n < 1:
        raise InputError(f"n must be at least 1, was: {n}")
    found: dict[str, set[tuple[str, ...]]] = {}
    words: dict[str, int] = {}
    for record in records:
        said = record.text.split()
        found.setdefault(record.prompt, set()).update(_ngrams(said, n))
        words[record.prompt] = words.get(record.prompt, 0) + len(said)
    prompts = [prompt for prompt, count in words.items() if count]
    if not prompts:
        raise InputError("no words to measure; expected at least one record with text")
    shares = np.array([[len(found[p]) / words[p], 1.0] for p in prompts])
    return bootstrap(shares, lambda s: s[..., 0] / s[..., 1], prompts, count=len(records))


def repetition(records: Sequence[Generation], n: int = 4) -> Estimate:
    """The share of n-grams that occurred earlier in the same text, as a mean over records.

    Texts of fewer than n words count as 0.
    """
    if n < 1:
        raise InputError(f"n must be at least 1, was: {n}")
    rows = []
    for record in records:
        all_of_them = _ngrams(record.text.split(), n)
        share = 1 - len(set(all_of_them)) / len(all_of_them) if all_of_them else 0.0
        rows.append([share, 1.0])
    prompts = [record.prompt for record in records]
    return bootstrap(np.array(rows).reshape(-1, 2), lambda s: s[..., 0] / s[..., 1], prompts)


def _ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(words[i:] for i in range(n)), strict=False))
