"""Prompting: a text before the prompt, an instruction or examples of the wanted side."""

from __future__ import annotations

import contextlib
import math
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ...errors import InputError
from ...model import cache_name, context_length, input_device, read_hidden
from ...states import Progress
from ...text import Example, prompt_ids, sides
from .method import Method, side_of
from .past import with_past

if TYPE_CHECKING:
    from typing import Self

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SHOTS = 8
SHARE = 0.5
"""Of the model's context that few-shot examples may fill."""
WORDS = 12


class Prompting(Method):
    """A text read before the prompt, one for each side; it is on or off.

    The text's keys and values stand in the cache before the prompt, at the places where a longer
    prompt would have put them: records keep the user's own prompt, and a given text can be scored.

    Args:
        texts: Before the prompt of the positive side, and of the negative one.
        tokenizer: Of the model.
    """

    generate_options = {"share_prompts": False}  # noqa: RUF012 - a ClassVar of Method
    parameters = 0

    def __init__(self, texts: tuple[str, str], tokenizer: PreTrainedTokenizerBase) -> None:
        self.texts, self.tokenizer = texts, tokenizer

    @contextlib.contextmanager
    def attach(self, model: PreTrainedModel, strength: float) -> Iterator[PreTrainedModel]:
        """The model, reading everything after the text; strength -1, 0 or 1."""
        side = side_of(self.name, strength)
        if side is None:
            yield model
            return
        from transformers import DynamicCache

        lead, ids = prompt_ids(self.tokenizer, ["", self.texts[side]])
        swap = None
        if len(lead) == 1:
            # A prompt begins with the same token: there the last one of the text takes its place.
            swap = (lead[0], ids.pop())
        past: Any = DynamicCache(config=model.config)
        given = torch.tensor([ids], device=input_device(model))
        with torch.no_grad():
            read_hidden(model, input_ids=given, use_cache=True, **{cache_name(model): past})
        with with_past(model, past, swap):
            yield model


class Instruction(Prompting):
    """An instruction before the prompt."""

    name = "instruction"
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
            model: The base model; not looked at.
            tokenizer: The model's own.
            examples: With labels of both signs; what the default instructions are made of.
            instructions: For strength 1 and for -1, read as they are: end them with a line break
                where the prompt should begin a line. By default they ask for a text that uses the
                words by which the side's texts are known, since examples do not say what the style
                is called: a person who knows writes better ones.
            seed: Without effect.
            progress: Never called.

        Raises:
            InputError: An empty instruction, or only one side.
        """
        if instructions is None:
            above, below = _telling_words(*sides(examples))
            instructions = (_asking(above), _asking(below))
        if not all(text.strip() for text in instructions):
            raise InputError(f"instructions must not be empty, were: {instructions!r}")
        return cls(instructions, tokenizer)


class FewShot(Prompting):
    """Texts of the wanted side before the prompt, one a paragraph."""

    name = "few-shot"
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
            model: For the length of its context: of texts that do not fit into half of it, the
                last are left out.
            tokenizer: The model's own.
            examples: With labels of both signs; those of the strongest labels are drawn from.
            shots: How many for each side.
            seed: Of the choice.
            progress: Never called.

        Raises:
            InputError: Only one side, or not one text that fits.
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


def _asking(words: Sequence[str]) -> str:
    return f"Write a text that uses words such as {', '.join(words)}.\n\n"


def _telling_words(
    above: Sequence[Example], below: Sequence[Example]
) -> tuple[list[str], list[str]]:
    """Words by which texts of either side are known: the largest z of their log-odds.

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
