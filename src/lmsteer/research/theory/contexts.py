"""All contexts of a language, with their exact chances: what every divergence here is summed over.

By the chain rule the KL of two languages over texts of n words is the sum of the KLs of the next
word over the contexts of 0 to n - 1 words. Divided by n it is in nats per
word: the unit throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from .hmm import Array, Hmm, all_texts


@dataclass(frozen=True, eq=False)
class Contexts:
    """Every context that a text of `length` words meets, short ones first.

    Args:
        groups: The contexts of 0, 1, ..., length - 1 words, each ``(contexts, words)``.
    """

    groups: Sequence[Int64[Array, "_ _"]]

    @classmethod
    def of(cls, vocab: int, length: int) -> Contexts:
        """Those of texts of `length` words over a vocabulary of `vocab` words."""
        return cls([all_texts(vocab, words) for words in range(length)])

    def __len__(self) -> int:
        return sum(map(len, self.groups))

    def each(self, of: Callable[[Int64[Array, "contexts words"]], Array]) -> Array:
        """What `of` says of each group of contexts of one length, one below the other."""
        return np.concatenate([of(group) for group in self.groups])

    def weights(self, language: Hmm) -> Float64[Array, " contexts"]:
        """How often each context is met, a word of a text drawn evenly; they sum to 1."""
        return np.asarray(np.exp(self.each(language.log_probability)) / len(self.groups))

    def beliefs(self, language: Hmm) -> Float64[Array, "contexts states"]:
        """The predictive belief after each."""
        return self.each(language.beliefs)

    def chances(self, language: Hmm) -> Float64[Array, "contexts vocab"]:
        """The next word's distribution after each."""
        return np.asarray(self.beliefs(language) @ language.emissions)
