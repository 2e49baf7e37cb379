"""Judges that read: a logistic regression on hidden states of a model that is not the one judged.

A bag of n-grams judges a text by its words; steers act on words too, so that both can be wrong in
the same way. A probe sees what another pre-trained model made of the whole text (Alain and Bengio
2016, "Understanding intermediate layers using linear classifier probes").
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ArtefactError, InputError, MismatchError
from ..model import ENCODERS, fast_dtype, input_device, load_encoder, load_model
from ..states import Pooling, Progress, read_pooled

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FORMAT = "lmsteer.probe-scorer"


@dataclass(frozen=True, eq=False)
class ProbeScorer:
    """Scores texts in [-1, 1]: 2 * probability - 1 of the positive class.

    The model that reads is loaded at the first call, and kept; probes of one model share it.

    Args:
        reader: The model that reads the texts: ``"minilm"``, or any that `load_model` takes. It
            must not be the model whose texts are judged.
        pooling: Which of its hidden states are the features.
        weights: ``(features,)`` float32, one weight per feature.
        bias: The number that is added to every score.
        facts: Where it comes from and how well it does, as JSON-like values.
    """

    reader: str
    pooling: Pooling
    weights: np.ndarray
    bias: float
    facts: dict[str, Any]

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """``(texts,)`` scores in [-1, 1].

        Raises:
            NotFoundError: The model that reads is not on this machine, nor on the Hub.
            MismatchError: Its states have another size than those that the probe learned from.
        """
        if not len(texts):
            return np.zeros(0)
        features = text_features(self.reader, texts, self.pooling)
        if features.shape[1] != len(self.weights):
            raise MismatchError(
                f"this probe has weights for {len(self.weights)} features, {self.reader} gives "
                f"{features.shape[1]}: it was trained on another model"
            )
        scores: np.ndarray = np.tanh((features @ self.weights + self.bias) / 2)
        return scores

    def save(self, path: str | PathLike[str]) -> None:
        """Write one ``.safetensors`` file."""
        from safetensors.numpy import save_file

        view = self.pooling
        note = {
            "reader": self.reader,
            "layers": view.layers,
            "pools": view.pools,
            "before": view.before,
            "after": view.after,
            "bias": self.bias,
            "facts": self.facts,
        }
        save_file(
            {"weights": self.weights.astype(np.float32)},
            path,
            metadata={"format": FORMAT, "note": json.dumps(note)},
        )

    @classmethod
    def load(cls, path: str | PathLike[str]) -> ProbeScorer:
        """Read what `save` wrote; the model that reads is not loaded yet.

        Raises:
            ArtefactError: The file is of another kind, or damaged.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "np") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise ArtefactError(f"{path} was not written by ProbeScorer.save")
                note = json.loads(metadata["note"])
                weights = file.get_tensor("weights")
            view = Pooling(
                tuple(map(int, note["layers"])),
                tuple(map(str, note["pools"])),
                str(note["before"]),
                str(note["after"]),
            )
            return cls(str(note["reader"]), view, weights, float(note["bias"]), note["facts"])
        except ArtefactError:
            raise
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise ArtefactError(f"{Path(path).name} cannot be read as a probe: {error}") from error


def text_features(
    reader: str, texts: Sequence[str], pooling: Pooling, *, progress: Progress | None = None
) -> np.ndarray:
    """``(texts, features)`` float32: what a model's hidden states say about each text.

    Args:
        reader: The model, as for `ProbeScorer`. It computes in bf16 where the hardware multiplies
            it, which moves a score by about 0.01.
        texts: The texts.
        pooling: The layers, the pools and the cues.
        progress: Called as ``progress("read", done, total)``, in texts.

    Raises:
        NotFoundError: The model is not on this machine, nor on the Hub.
    """
    model, tokenizer = _loaded(reader)
    found: np.ndarray = read_pooled(model, tokenizer, texts, pooling, progress=progress).numpy()
    return found


@functools.lru_cache(maxsize=4)
def _loaded(reader: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    model, tokenizer = load_encoder(reader) if reader in ENCODERS else load_model(reader)
    return model.to(fast_dtype(input_device(model))), tokenizer  # type: ignore[arg-type]


def train_probe(
    reader: str,
    pooling: Pooling,
    features: np.ndarray,
    labels: Sequence[int],
    *,
    strength: float = 0.001,
    facts: dict[str, Any] | None = None,
) -> ProbeScorer:
    """Learn a probe from the features of labelled texts.

    Args:
        reader: The model that `text_features` took them from.
        pooling: What `text_features` was given.
        features: ``(texts, features)``, what it returned.
        labels: The class of each text, 1 or 0.
        strength: The inverse of the ridge (`C` of scikit-learn), for features of unit variance.
        facts: JSON-like values that are kept with the probe.

    Raises:
        InputError: There is one class only, or a label is neither 0 nor 1.
    """
    from sklearn.linear_model import LogisticRegression

    y = np.asarray(labels)
    if set(y.tolist()) != {0, 1}:
        raise InputError(f"labels must be 0 and 1, both present, were: {sorted(set(y.tolist()))}")
    center = features.mean(0, dtype=np.float64)
    spread = features.std(0, dtype=np.float64) + 1e-6
    model = LogisticRegression(C=strength, max_iter=500)
    model.fit(((features - center) / spread).astype(np.float32), y)
    # The scaling becomes a part of the weights, so that a probe is one product.
    weights = model.coef_[0] / spread
    bias = float(model.intercept_[0] - center @ weights)
    return ProbeScorer(reader, pooling, weights.astype(np.float32), bias, dict(facts or {}))
