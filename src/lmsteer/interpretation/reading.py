"""The spans of a text and its style value, from one reading."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..states import SHOWN, Progress
from ..steer import Steer
from .likelihood import likelihood
from .spans import Evidence, check_options, evidence_in
from .value import STRENGTHS, StyleValue, values_in

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def read_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    steer: Steer,
    texts: Sequence[str],
    *,
    strength: float = 1.0,
    spans: int = 3,
    domain: bool = True,
    progress: Progress | None = SHOWN,
) -> list[tuple[Evidence, StyleValue]]:
    """What `evidence` and `style_value` find in texts, from one pass over them.

    Args:
        model: A causal language model, whose trunk and head read each text once.
        tokenizer: The tokenizer of the model.
        steer: A steer at the output site, learned on `model`.
        texts: The texts to read.
        strength: The strength of the evidence, above 0.
        spans: The largest number of spans per text.
        domain: Whether the domain part is on.
        progress: How the work reports how far it is, as for `lmsteer.generate`.
    """
    check_options(strength, spans)
    wanted = sorted({*STRENGTHS, strength, -strength})
    read = likelihood(model, tokenizer, steer, texts, wanted, domain=domain, progress=progress)
    found = evidence_in(read, tokenizer, texts, strength=strength, spans=spans)
    return list(zip(found, values_in(read, len(texts), STRENGTHS), strict=True))
