"""The two models of a transfer: how each reads the same texts, and the places that both read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import InputError
from ..generation import generate
from ..model import Head, input_tables, read_head
from ..states import Progress, encode_for, read_states
from ..text import read_prompts, target_spans

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FEWEST_WORDS = 50


@dataclass(frozen=True, eq=False)
class Side:
    """What is known of one of the two models."""

    head: Head
    table: Float[Tensor, "vocab dim"]
    hidden: Float[Tensor, "tokens dim"]
    places: dict[tuple[int, int], int]


def sampled(source: tuple[PreTrainedModel, PreTrainedTokenizerBase]) -> list[str]:
    """Texts that the source model writes: it knows no other text so well."""
    model, tokenizer = source
    records = generate(
        model,
        tokenizer,
        read_prompts("bundled:neutral"),
        samples=4,
        max_new_tokens=48,
        top_p=0.9,
    )
    return [record.prompt + record.text for record in records]


def read_side(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    site: str,
    progress: Progress | None,
) -> Side:
    """Read texts through one model, and note where in them each state stands."""
    encoded = encode_for(model, tokenizer, texts)
    hidden = read_states(model, encoded, progress=progress).hidden.float().cpu()
    head = read_head(model)
    table = head.weight if site == "output" else _input_table(model)
    places: dict[tuple[int, int], int] = {}
    row = 0
    for number, spans in zip(encoded.source, target_spans(tokenizer, texts, encoded), strict=True):
        for start, end in spans:
            # A word's place is its first letter: vocabularies differ in where its space belongs.
            piece = texts[number][start:end]
            first = start + len(piece) - len(piece.lstrip())
            if piece.strip():
                places.setdefault((number, first), row)
            row += 1
    return Side(head, table.float().cpu(), hidden, places)


def _input_table(model: Any) -> Float[Tensor, "vocab dim"]:
    """The input embeddings."""
    weight: Tensor = input_tables(model)[0].weight
    return weight.detach()


def same_places(
    ours: Side, theirs: Side
) -> tuple[Float[Tensor, "places dim"], Float[Tensor, "places other"]]:
    """The states of both models at the characters where both begin a word.

    Raises:
        InputError: There are hardly any such places.
    """
    shared = [place for place in ours.places if place in theirs.places]
    if len(shared) < FEWEST_WORDS:
        raise InputError(
            f"the models meet at {len(shared)} places of the texts; expected {FEWEST_WORDS} at "
            "least: give more texts, or another form"
        )
    return (
        ours.hidden[[ours.places[p] for p in shared]],
        theirs.hidden[[theirs.places[p] for p in shared]],
    )


@torch.no_grad()
def frequencies(side: Side) -> Float[Tensor, " vocab"]:
    """How likely the model finds each word, on average over (some of) its states."""
    hidden = side.hidden[:: max(1, len(side.hidden) // 4096)].to(side.head.weight)
    total = torch.zeros(len(side.head.weight), dtype=torch.float64)
    for part in side.head.chunks(len(hidden)):
        total += side.head.logits(hidden[part]).softmax(-1).sum(0).double().cpu()
    return total / len(hidden)
