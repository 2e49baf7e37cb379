"""A small linear classifier of text: hashed n-grams, naive Bayes features, logistic regression.

Wang and Manning 2012 ("NB-SVM"): the presence of each n-gram, scaled by its log-count ratio
between the classes, rows of unit length, a linear model on top. Both become one array of weights,
which is all that is saved: no pickle, no vocabulary, none of the text that was learned from.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArtefactError, InputError
from ..text import Example, sides

FORMAT = "lmsteer.linear-scorer"


@dataclass(frozen=True, eq=False)
class LinearScorer:
    """Scores texts in [-1, 1]: 2 * probability - 1 of the positive class.

    Args:
        weights: ``(2**bits,)`` float16, one weight per hashed n-gram.
        bias: The number that is added to every score.
        ngrams: The lengths of the shortest and of the longest n-gram, in words.
        facts: Where it comes from and how well it does, as JSON-like values.
    """

    weights: np.ndarray
    bias: float
    ngrams: tuple[int, int]
    facts: dict[str, Any]

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """``(texts,)`` scores in [-1, 1]; a text of no known word gets the bias alone."""
        features = _features(texts, len(self.weights), self.ngrams)
        scores: np.ndarray = np.tanh((features @ self.weights.astype(np.float32) + self.bias) / 2)
        return scores

    def save(self, path: str | PathLike[str]) -> None:
        """Write one ``.safetensors`` file."""
        from safetensors.numpy import save_file

        note = {"ngrams": self.ngrams, "bias": self.bias, "facts": self.facts}
        save_file(
            {"weights": self.weights}, path, metadata={"format": FORMAT, "note": json.dumps(note)}
        )

    @classmethod
    def load(cls, path: str | PathLike[str]) -> LinearScorer:
        """Read what `save` wrote.

        Raises:
            ArtefactError: The file is of another kind, or damaged.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "np") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise ArtefactError(f"{path} was not written by LinearScorer.save")
                note = json.loads(metadata["note"])
                weights = file.get_tensor("weights")
        except (SafetensorError, OSError) as error:
            raise ArtefactError(f"{Path(path).name} cannot be read as a scorer: {error}") from error
        return cls(weights, note["bias"], tuple(note["ngrams"]), note["facts"])


def train_scorer(
    texts: Sequence[str],
    labels: Sequence[int],
    *,
    bits: int = 20,
    ngrams: tuple[int, int] = (1, 2),
    strength: float = 1.0,
    rare: int = 2,
    facts: dict[str, Any] | None = None,
) -> LinearScorer:
    """Learn a scorer from labelled text.

    Args:
        texts: The texts to learn from, at least one per class.
        labels: The class of each text, 1 or 0.
        bits: The size of the table of weights; the file takes ``2**(bits + 1)`` bytes.
        ngrams: The lengths of the shortest and of the longest n-gram, in words.
        strength: The inverse of the ridge (`C` of scikit-learn).
        rare: The number of texts below which an n-gram is left out.
        facts: JSON-like values that are kept with the scorer.

    Raises:
        InputError: There is one class only, or a label is neither 0 nor 1.
    """
    from scipy.sparse import diags
    from sklearn.linear_model import LogisticRegression

    y = np.asarray(labels)
    if set(y.tolist()) != {0, 1}:
        raise InputError(f"labels must be 0 and 1, both present, were: {sorted(set(y.tolist()))}")
    features = _features(texts, 2**bits, ngrams)
    presence = (features > 0).astype(np.float32)
    seen = np.asarray(presence.sum(0)).ravel()
    sums = [np.asarray(presence[y == side].sum(0)).ravel() + 1.0 for side in (1, 0)]
    ratio = np.log((sums[0] / sums[0].sum()) / (sums[1] / sums[1].sum()))
    ratio[seen < rare] = 0.0
    model = LogisticRegression(C=strength, solver="liblinear", dual=True, random_state=0)
    model.fit(features @ diags(ratio.astype(np.float32)), y)
    weights = (model.coef_[0] * ratio).astype(np.float16)
    return LinearScorer(weights, float(model.intercept_[0]), ngrams, dict(facts or {}))


def scorer_of(examples: Sequence[Example], *, bits: int = 18) -> LinearScorer:
    """A scorer of the style that labelled examples have, by the signs of their labels.

    Raises:
        InputError: All labels have the same sign.
    """
    above, below = sides(examples)
    texts = [e.text for e in (*above, *below)]
    return train_scorer(texts, [1] * len(above) + [0] * len(below), bits=bits)


def _features(texts: Sequence[str], size: int, ngrams: tuple[int, int]) -> Any:
    """Sparse ``(texts, size)`` presence of hashed n-grams, rows of unit length."""
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(
        n_features=size,
        ngram_range=ngrams,
        alternate_sign=False,
        binary=True,
        norm="l2",
        lowercase=True,
        # Words with their apostrophes, and the marks that carry mood.
        token_pattern=r"(?u)\w+(?:'\w+)?|[!?]",
        dtype=np.float32,
    ).transform(list(texts))
