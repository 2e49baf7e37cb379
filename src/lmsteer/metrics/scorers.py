"""Scorers of style by name: a lexicon, shipped classifiers, any Hub model, a user's function."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, NotFoundError
from .lexicon import lexicon_scores
from .linear import LinearScorer

Scorer = Callable[[Sequence[str]], np.ndarray]
"""A function from texts to scores in [-1, 1], above 0 where the style is present."""
SHIPPED = ("sentiment", "toxicity")
HARMS = frozenset({"toxicity"})
"""Scorers of styles to be avoided, for which the worst of several texts counts as well."""


def load_scorer(name: str, *, positive: str | None = None, device: str | None = None) -> Scorer:
    """Find a scorer by its name.

    Args:
        name: ``"vader"``, the lexicon; ``"sentiment"`` or ``"toxicity"``, the classifiers that
            come with the package; a ``.safetensors`` file that `LinearScorer.save` wrote;
            ``"module:callable"``, a function of yours from texts to scores; otherwise
            a text-classification model, by its folder or Hub id.
        positive: The label of a Hub model that stands for the style; by default the one whose name
            says so (positive, toxic, LABEL_1, ...).
        device: The device of a Hub model.

    Raises:
        NotFoundError: There is no scorer of that name.
        InputError: What was given cannot be called, or a model's labels do not say which one stands
            for the style.
    """
    if name == "vader":
        return lexicon_scores
    if name in SHIPPED:
        return LinearScorer.load(
            str(resources.files("lmsteer") / "assets" / "scorers" / f"{name}.safetensors")
        )
    if name.endswith(".safetensors"):
        return LinearScorer.load(name)
    module, colon, attribute = name.partition(":")
    if colon and not Path(name).exists():
        return _own(module, attribute)
    return _hub(name, positive, device)


def _own(module: str, attribute: str) -> Scorer:
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise NotFoundError(f"no scorer {module}:{attribute}: {error}") from error
    if not callable(found):
        raise InputError(f"{module}:{attribute} is not callable; expected texts -> scores")

    def scored(texts: Sequence[str]) -> np.ndarray:
        scores = np.asarray(found(list(texts)), dtype=float)
        if scores.shape != (len(texts),) or not np.isfinite(scores).all():
            raise InputError(
                f"{module}:{attribute} must return one finite number per text, in [-1, 1]; "
                f"returned shape {scores.shape} for {len(texts)} texts"
            )
        return scores

    return scored


_POSITIVE = ("positive", "pos", "toxic", "toxicity", "label_1", "1", "yes", "true")


def _hub(name: str, positive: str | None, device: str | None) -> Scorer:
    from transformers import pipeline

    try:
        classify: Any = pipeline("text-classification", model=name, device=device, top_k=None)
    except (OSError, ValueError) as error:
        raise NotFoundError(
            f"no scorer {name!r}: expected vader, {', '.join(SHIPPED)}, a .safetensors file, "
            f"module:callable, or a text-classification model ({error})"
        ) from error
    labels = list(classify.model.config.id2label.values())
    wanted = [
        label
        for label in labels
        if (label == positive if positive is not None else label.lower() in _POSITIVE)
    ]
    if len(wanted) != 1:
        raise InputError(
            f"{name!r} has the labels {labels}; say which one is the style with positive="
        )

    def scored(texts: Sequence[str]) -> np.ndarray:
        # An empty text has nothing to read; a space keeps the tokenizer from refusing it.
        found = classify([text or " " for text in texts], batch_size=32, truncation=True)
        chances = [
            next(item["score"] for item in row if item["label"] == wanted[0]) for row in found
        ]
        return 2.0 * np.array(chances) - 1.0

    return scored
