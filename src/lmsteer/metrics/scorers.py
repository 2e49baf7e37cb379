"""Scorers of style by name: a lexicon, shipped classifiers, any Hub model, a user's function."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArtefactError, InputError, NotFoundError
from .lexicon import lexicon_scores
from .linear import FORMAT as LINEAR
from .linear import LinearScorer
from .probes import FORMAT as PROBE
from .probes import ProbeScorer

Scorer = Callable[[Sequence[str]], np.ndarray]
"""A function from texts to scores in [-1, 1], above 0 where the style is present."""
SHIPPED = ("sentiment", "toxicity")
READERS = ("minilm", "smollm2")
"""The models whose hidden states the probes that come with the package read."""
RECIPES = ("gemma-3-270m",)
"""Models whose terms do not let a probe come with the package; it is trained by a command."""
HARMS = frozenset({"toxicity", *(f"toxicity:{reader}" for reader in (*READERS, *RECIPES))})
"""Scorers of styles to be avoided, for which the worst of several texts counts as well."""


def load_scorer(name: str, *, positive: str | None = None, device: str | None = None) -> Scorer:
    """Find a scorer by its name.

    Args:
        name: ``"vader"``, the lexicon; ``"sentiment"`` or ``"toxicity"``, the classifiers that
            come with the package; ``"sentiment:minilm"``, ``"sentiment:smollm2"``,
            ``"toxicity:minilm"``, ``"toxicity:smollm2"``, which read with a model that is not the
            one judged; a ``.safetensors`` file that `LinearScorer.save` or `ProbeScorer.save`
            wrote; ``"module:callable"``, a function of yours from texts to scores; otherwise
            a text-classification model, by its folder or Hub id.
        positive: The label of a Hub model that stands for the style; by default the one whose name
            says so (positive, toxic, LABEL_1, ...).
        device: The device of a Hub model.

    Raises:
        NotFoundError: There is no scorer of that name, or it does not come with the package.
        ArtefactError: The file is of another kind, or damaged.
        InputError: What was given cannot be called, or a model's labels do not say which one stands
            for the style.
    """
    if name == "vader":
        return lexicon_scores
    if name.endswith(".safetensors"):
        return _file(name)
    module, colon, attribute = name.partition(":")
    if module in SHIPPED and (not colon or attribute in READERS):
        file = f"{name.replace(':', '-')}.safetensors"
        return _file(str(resources.files("lmsteer") / "assets" / "scorers" / file))
    if module in SHIPPED and attribute in RECIPES:
        raise NotFoundError(
            f"the scorer {name} does not come with the package, because the terms of {attribute} "
            "do not let it; in the project's repository, python -m experiments.scorers.probes "
            f"{module} --reader {attribute} writes a .safetensors file to give instead"
        )
    if colon and not Path(name).exists():
        return _own(module, attribute)
    return _hub(name, positive, device)


def _file(path: str) -> Scorer:
    from safetensors import SafetensorError, safe_open

    kinds: dict[str | None, Callable[[str], Scorer]] = {
        LINEAR: LinearScorer.load,
        PROBE: ProbeScorer.load,
    }
    try:
        with safe_open(path, "np") as file:
            kind = (file.metadata() or {}).get("format")
    except (SafetensorError, OSError) as error:
        raise ArtefactError(f"{Path(path).name} cannot be read as a scorer: {error}") from error
    if kind not in kinds:
        raise ArtefactError(
            f"{path} is no scorer: it was not written by LinearScorer.save or ProbeScorer.save"
        )
    return kinds[kind](path)


def _own(module: str, attribute: str) -> Scorer:
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        known = ", ".join(f"{module}:{reader}" for reader in READERS)
        hint = f"; there are {known}" if module in SHIPPED else ""
        raise NotFoundError(f"no scorer {module}:{attribute}: {error}{hint}") from error
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
            f"no scorer {name!r}: expected vader, {', '.join(SHIPPED)}, sentiment:{READERS[0]}, "
            f"a .safetensors file, module:callable, or a text-classification model ({error})"
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
