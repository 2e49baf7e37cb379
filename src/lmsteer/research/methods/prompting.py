"""What methods share that put a text before the prompt: an instruction, examples."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from ...model import cache_name, input_device, read_hidden
from ...text import prompt_ids
from .method import Method, side_of
from .past import with_past

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Prompting(Method):
    """A text read before the prompt, one for each side; it is on or off.

    The text's keys and values stand in the cache before the prompt, at the places where a longer
    prompt would have put them: records hold the user's own prompt, and a given text can be scored.

    Args:
        texts: What is read before the prompt, for the positive side and for the negative one.
        tokenizer: The model's tokenizer.
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
