"""Instruction: a request for the wanted style, read before the prompt."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...errors import InputError
from ...states import Progress
from ...text import Example, sides
from .prompting import Prompting

if TYPE_CHECKING:
    from typing import Self

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

WORDS = 12


class Instruction(Prompting):
    """An instruction before the prompt."""

    name = "instruction"
    order = 150
    in_paper = True
    fit_options = ("instructions",)
    source = "a prompt; by default made of the words that tell the sides apart (ours)"

    @classmethod
    def fit(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        examples: Sequence[Example],
        *,
        instructions: tuple[str, str] | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Self:
        """Nothing is trained; see `Method.fit`.

        Args:
            model: The base model; it is not used.
            tokenizer: The model's own tokenizer.
            examples: Labelled texts, with labels of both signs; the default instructions are made
                from them.
            instructions: The instructions for strength 1 and for -1. They are read as they are: end
                them with a line break where the prompt should begin a line. By default they ask
                for a text with the words that are typical of the side, since examples do not say
                what the style is called: a person who knows it writes better ones.
            seed: It has no effect.
            progress: It is never called.

        Raises:
            InputError: An instruction is empty, or all examples are of one side.
        """
        if instructions is None:
            above, below = _telling_words(*sides(examples))
            instructions = (_asking(above), _asking(below))
        if not all(text.strip() for text in instructions):
            raise InputError(f"instructions must not be empty, were: {instructions!r}")
        return cls(instructions, tokenizer)


def _asking(words: Sequence[str]) -> str:
    return f"Write a text that uses words such as {', '.join(words)}.\n\n"


def _telling_words(
    above: Sequence[Example], below: Sequence[Example]
) -> tuple[list[str], list[str]]:
    """The words that are typical of each side: the largest z of their log-odds.

    Monroe et al. 2008, "Fightin' Words", with a prior of 1 on each word.
    """
    counts = [
        Counter(w for e in side for w in set(re.findall(r"[a-z]{3,}", e.text.lower())))
        for side in (above, below)
    ]
    total = [sum(count.values()) + 1.0 for count in counts]
    words = sorted(set(counts[0]) | set(counts[1]))
    if not words:
        raise InputError("the texts hold no word of three letters; give instructions=")

    def z(word: str) -> float:
        a, b = (count[word] + 1.0 for count in counts)
        return (math.log(a / total[0]) - math.log(b / total[1])) / math.sqrt(1 / a + 1 / b)

    ranked = sorted(words, key=z)
    return ranked[::-1][:WORDS], ranked[:WORDS]
