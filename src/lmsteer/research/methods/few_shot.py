"""Few-shot prompting: examples of the wanted side, read before the prompt (Brown et al. 2020)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...errors import InputError
from ...model import context_length
from ...states import Progress
from ...text import Example, prompt_ids, sides
from .prompting import Prompting

if TYPE_CHECKING:
    from typing import Self

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SHOTS = 8
SHARE = 0.5
"""The share of the model's context that the examples may fill."""


class FewShot(Prompting):
    """Texts of the wanted side before the prompt, one per paragraph."""

    name = "few-shot"
    order = 160
    source = "Brown et al. 2020: examples in the prompt, without an instruction"

    @classmethod
    def fit(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        examples: Sequence[Example],
        *,
        shots: int = SHOTS,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Self:
        """Choose the examples; nothing is trained. See `Method.fit`.

        Args:
            model: The base model; the chosen texts fill at most half of its context, and those that
                do not fit are left out.
            tokenizer: The model's own tokenizer.
            examples: Labelled texts, with labels of both signs; the choice is among those with the
                strongest labels.
            shots: The number of examples per side.
            seed: The seed of the choice.
            progress: It is never called.

        Raises:
            InputError: All examples are of one side, or not one text fits.
        """
        if shots < 1:
            raise InputError(f"shots must be at least 1, was: {shots}")
        most = SHARE * float(context_length(model) or 2048)
        draw = random.Random(seed)
        texts = []
        for side in sides(examples):
            strongest = max(abs(e.labels[0]) for e in side)
            pool = sorted({e.text.strip() for e in side if abs(e.labels[0]) == strongest})
            text = ""
            for shot in draw.sample(pool, min(shots, len(pool))):
                longer = f"{text}{shot}\n\n"
                if len(prompt_ids(tokenizer, [longer])[0]) <= most:
                    text = longer
            if not text:
                raise InputError(
                    f"not one of the drawn texts fits into {most:g} tokens; give shorter ones"
                )
            texts.append(text)
        return cls((texts[0], texts[1]), tokenizer)
