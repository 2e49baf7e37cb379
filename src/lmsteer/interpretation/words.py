"""What a steer does to words: its directions, and which words become more or less likely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import UnsupportedError
from ..model import (
    check_everywhere,
    check_fit,
    decoder_start,
    evaluating,
    input_device,
    input_tables,
    read_head,
    read_hidden,
)
from ..states import read_states
from ..steer import Steer
from ..text import encode_pairs, pieces, prompt_ids, read_prompts

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Scored = list[tuple[str, float]]
LEAST_LETTERS, LEAST_CHANCE = 3, 1e-5


@dataclass(frozen=True)
class Direction:
    """One singular direction of a steer's matrix, ``W = sum_i scale_i u_i v_i^T``.

    Args:
        share: The share of the squared norm of W, in [0, 1].
        reads: The words at both ends of ``u``, the strongest first: which rows turn the direction
            on.
        writes: The words at both ends of ``v``: what is added when the direction is on. The sign is
            chosen so that, at positive strength, the first list gains on the prompts.
    """

    share: float
    reads: tuple[Scored, Scored]
    writes: tuple[Scored, Scored]


@dataclass(frozen=True)
class Shift:
    """How a word's log-probability at some strength differs from the base model's.

    Args:
        word: The word, without its leading space.
        change: The difference in nats, as the mean over the prompts.
        chance: The mean probability of the word under the base model.
    """

    word: str
    change: float
    chance: float


def directions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    steer: Steer,
    *,
    count: int = 4,
    words: int = 10,
    prompts: Sequence[str] | None = None,
) -> list[Direction]:
    """The leading singular directions, with the words that lie furthest along them.

    Args:
        model: The model, whose embeddings minus their mean say where words lie.
        tokenizer: The tokenizer of the model.
        steer: A steer learned on `model`.
        count: The number of directions, at most the rank.
        words: The number of words per end. They have at least 3 letters and are whole: the model
            finds it unlikely that more letters follow.
        prompts: The prompts from which the signs are chosen, at the output site; by default the
            neutral prompts of the package.

    Source: Han et al. 2024, section 5 (SVD of W).
    """
    check_fit(model, steer)
    left, scale, right = (part.float() for part in steer.svd())
    table = read_head(model).weight if steer.site == "output" else input_tables(model)[0].weight
    found_pieces = pieces(tokenizer, len(table))
    spelled = word_starts(found_pieces)
    ids = list(spelled)
    rows = table.detach()[ids].float().cpu()
    rows = rows - rows.mean(0)
    if steer.site == "output":
        sign = _last_states(model, tokenizer, prompts).mean(0).cpu() @ left
        flip = torch.where(sign < 0, -1.0, 1.0)
        left, right = left * flip, right * flip
    whole = _Whole(model, tokenizer, found_pieces)
    share = scale.square() / scale.square().sum().clamp_min(1e-30)
    found = []
    for i in range(min(count, len(scale))):
        ends: list[tuple[Scored, Scored]] = []
        for side in (left, right):
            scores = dict(zip(ids, (rows @ side[:, i]).tolist(), strict=True))
            order = sorted(ids, key=lambda n: -scores[n])
            high, low = (
                [(spelled[n], scores[n]) for n in whole.first(part, words)]
                for part in (order, order[::-1])
            )
            ends.append((high, low))
        found.append(Direction(float(share[i]), reads=ends[0], writes=ends[1]))
    return found


def word_shifts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    steer: Steer,
    *,
    strength: float = 3.0,
    count: int = 20,
    prompts: Sequence[str] | None = None,
) -> tuple[list[Shift], list[Shift]]:
    """The words that gain and that lose most log-probability, on average after the prompts.

    Args:
        model: The model, which is read once and unsteered.
        tokenizer: The tokenizer of the model.
        steer: A steer at the output site, learned on `model`.
        strength: The strength at which words are compared with the base.
        count: The number of words that gain, and of words that lose.
        prompts: The prompts whose next word is looked at; by default the neutral prompts of the
            package.

    Returns:
        The words that gain and the words that lose, the largest change first. They are whole words
        of at least 3 letters whose mean probability under the base is at least 1e-5.
    """
    check_fit(model, steer)
    if steer.site != "output":
        raise UnsupportedError(
            "word shifts come from one pass that a steer at the input site changes; compare two "
            "calls of the model under lmsteer.attach instead"
        )
    check_everywhere(steer, "comparing words")
    head = read_head(model)
    hidden = _last_states(model, tokenizer, prompts)
    moved = steer.shift(hidden, strength)
    change = torch.zeros(len(head.weight), dtype=torch.float64)
    chance = torch.zeros_like(change)
    with torch.no_grad():
        for part in head.chunks(len(hidden)):
            base = head.logits(hidden[part]).log_softmax(-1)
            change += (head.logits(moved[part]).log_softmax(-1) - base).sum(0).double().cpu()
            chance += base.exp().sum(0).double().cpu()
    change, chance = change / len(hidden), chance / len(hidden)
    found_pieces = pieces(tokenizer, len(change))
    spelled = word_starts(found_pieces)
    order = sorted((n for n in spelled if chance[n] >= LEAST_CHANCE), key=lambda n: -change[n])
    whole = _Whole(model, tokenizer, found_pieces)
    sides = (
        whole.first([n for n in order if change[n] > 0], count),
        whole.first([n for n in order[::-1] if change[n] < 0], count),
    )
    gains, losses = (
        [Shift(spelled[n], float(change[n]), float(chance[n])) for n in side] for side in sides
    )
    return gains, losses


def word_starts(found: Mapping[int, str]) -> dict[int, str]:
    """The tokens that begin a word and consist of 3 letters or more, with what they spell."""
    spaced = any(piece.startswith(" ") for piece in found.values())
    return {
        number: piece.strip()
        for number, piece in found.items()
        if len(piece.strip()) >= LEAST_LETTERS
        and piece.strip().isalpha()
        and (piece.startswith(" ") or not spaced)
    }


class _Whole:
    """Tells whole words from beginnings of words, by what the model expects to follow them."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        found: Mapping[int, str],
    ) -> None:
        self.model, self.head = model, read_head(model)
        self.before = prompt_ids(tokenizer, ["the"])[0]
        self.glued = torch.tensor(
            [n for n, p in found.items() if p[0].isalpha() or p[0] in "'’"],
            device=self.head.weight.device,
        )
        self.known: dict[int, bool] = {}

    def first(self, order: Sequence[int], count: int) -> list[int]:
        """The first `count` of these tokens after which more letters are unlikely."""
        found: list[int] = []
        for start in range(0, len(order), 64):
            part = order[start : start + 64]
            self._ask([number for number in part if number not in self.known])
            found += [number for number in part if self.known[number]]
            if len(found) >= count:
                break
        return found[:count]

    @torch.no_grad()
    def _ask(self, numbers: Sequence[int]) -> None:
        if not numbers:
            return
        ids = torch.tensor([[*self.before, n] for n in numbers], device=input_device(self.model))
        with evaluating(self.model):
            hidden = read_hidden(self.model, input_ids=ids, attention_mask=torch.ones_like(ids))
        chances = self.head.logits(hidden[:, -1].to(self.head.weight)).softmax(-1)
        on = chances[:, self.glued].sum(-1).tolist()
        self.known |= {n: chance < 0.5 for n, chance in zip(numbers, on, strict=True)}


def _last_states(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str] | None
) -> Float[Tensor, "prompts dim"]:
    """What the head reads after each prompt."""
    if decoder_start(model) is not None:
        raise UnsupportedError("steers of encoder-decoder models cannot be explained so far")
    chosen = list(read_prompts("bundled:neutral") if prompts is None else prompts)
    # One more token of any kind is the target of the state that is wanted.
    encoded = encode_pairs(tokenizer, chosen, ["a"] * len(chosen), max_length=None)
    states = read_states(model, encoded)
    return states.hidden[[int((states.text == i).nonzero()[0]) for i in range(len(encoded))]]
