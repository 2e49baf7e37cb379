"""Which embedding table a steer was learned on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

# Two sketches of one head agree to cosine 0.9999 even after 8-bit quantisation; heads of
# different models are nearly orthogonal.
SAME_MODEL_COSINE = 0.99


@dataclass(frozen=True, kw_only=True, eq=False)
class Fingerprint:
    """Which embedding table a steer was learned on.

    Args:
        sketch: A fixed random projection of the table, float32, of any length. Sketches are
            compared by cosine, so that bf16, quantised, untied and vocabulary-padded copies of a
            table still match.
        model: The name or path of the base model, for people.
        revision: The model's commit on the Hub, if known.
    """

    sketch: Float[Tensor, " sketch"]
    model: str = ""
    revision: str | None = None

    def similarity(self, other: Fingerprint) -> float:
        """The cosine of the two sketches, in [-1, 1]."""
        return float(torch.nn.functional.cosine_similarity(self.sketch, other.sketch, dim=0))

    def matches(self, other: Fingerprint) -> bool:
        """Whether both were taken from copies of the same table."""
        same_size = self.sketch.shape == other.sketch.shape
        return same_size and self.similarity(other) >= SAME_MODEL_COSINE
