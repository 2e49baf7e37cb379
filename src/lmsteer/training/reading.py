"""Labelled texts as a pass over the model takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from ..model import context_length, decoder_start, sample_digest
from ..states import Keep
from ..text import Encoded, Example, Weight, as_chat, digest_of, encode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def in_order(examples: Sequence[Example]) -> list[Example]:
    """One order for the same texts, however they came: by content."""
    return sorted(examples, key=lambda example: example.digest)


def length_for(model: nn.Module, asked: int | None, most: int) -> int:
    """The number of tokens that texts are cut to: as asked, else the context but at most `most`."""
    return asked or min(most, context_length(model) or most)


def encode_texts(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    max_length: int,
    *,
    chat: bool,
    weight: Weight | str = "token",
    balance: bool = False,
) -> Encoded:
    """The tokens of the texts, with prompts in the chat template if `chat`."""
    if chat:
        prompts = as_chat(tokenizer, [e.prompt for e in examples])
        examples = [replace(e, prompt=p) for e, p in zip(examples, prompts, strict=True)]
    return encode(
        tokenizer,
        examples,
        max_length=max_length,
        weight=weight,
        balance=balance,
        decoder_start=decoder_start(model),
    )


def keep_in(
    folder: str | PathLike[str] | None,
    model: nn.Module,
    examples: Sequence[Example],
    *,
    resume: bool,
    memory: float,
    key: Mapping[str, Any],
) -> Keep:
    """Where the rows lie; in a folder, with all that they and what is learned depend on."""
    if folder is None:
        return Keep(memory)
    whole = {**key, "model": sample_digest(model), "texts": digest_of(examples)}
    return Keep(memory, Path(folder), resume, whole)
