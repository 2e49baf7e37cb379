"""What a steer does to words: its directions, and who gains and loses by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from ..alignment.words import pieces
from ..attachment import check_fit
from ..encoding import encode_pairs
from ..errors import UnsupportedError
from ..head import decoder_start, input_tables
from ..hidden import read_head, read_states
from ..readers import read_prompts
from ..steer import Steer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Scored = list[tuple[str, float]]
LEAST_LETTERS, LEAST_CHANCE = 3, 1e-5


@dataclass(frozen=True)
class Direction:
    """One singular direction of a steer's matrix, ``W = sum_i scale_i u_i v_i^T``.

    Args:
        share: Of the squared norm of W, in [0, 1].
        reads: Words at both ends of ``u``, from the strongest: which rows turn the direction on.
        writes: Words at both ends of ``v``: what is added when it is on. The sign is chosen so
            that, at positive strength, the first list gains on the prompts that were read.
    """

    share: float
    reads: tuple[Scored, Scored]
    writes: tuple[Scored, Scored]


@dataclass(frozen=True)
class Shift:
    """A word's log-probability at some strength, against the base.

    Args:
        word: Without its leading space.
        change: In nats, mean over the prompts.
        chance: Mean probability under the base model.
    """

    word: str
    change: float
    chance: float


def directions(
    steer: Steer,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    count: int = 4,
    words: int = 10,
    prompts: Sequence[str] | None = None,
) -> list[Direction]:
    """The leading singular directions, with the words that lie furthest along them.

    Args:
        steer: Learned on `model`.
        model: Whose table of embeddings says where words lie, the mean word taken off.
        tokenizer: The model's own.
        count: How many directions, at most the rank.
        words: How many words an end; whole ones of at least 3 letters.
        prompts: Give the signs (output site); the neutral ones of the package by default.

    Source: Han et al. 2024, section 5 (SVD of W).
    """
    check_fit(model, steer)
    left, scale, right = _svd(steer)
    table = read_head(model).weight if steer.site == "output" else input_tables(model)[0].weight
    ids, names = whole_words(tokenizer, len(table))
    rows = table.detach()[ids].float().cpu()
    rows = rows - rows.mean(0)
    if steer.site == "output":
        sign = _last_states(model, tokenizer, prompts).mean(0).cpu() @ left
        flip = torch.where(sign < 0, -1.0, 1.0)
        left, right = left * flip, right * flip
    share = scale.square() / scale.square().sum().clamp_min(1e-30)
    found = []
    for i in range(min(count, len(scale))):
        ends = [_ends(rows @ side[:, i], names, words) for side in (left, right)]
        found.append(Direction(float(share[i]), *ends))
    return found


def word_shifts(
    steer: Steer,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    strength: float = 3.0,
    count: int = 20,
    prompts: Sequence[str] | None = None,
) -> tuple[list[Shift], list[Shift]]:
    """The words that gain and that lose most log-probability, on average after the prompts.

    Args:
        steer: At the output site, learned on `model`.
        model: Read once, unsteered.
        tokenizer: The model's own.
        strength: At which words are compared with the base.
        count: How many of either.
        prompts: Whose next word is looked at; the neutral ones of the package by default.

    Returns:
        Gains and losses, the largest first; whole words of at least 3 letters whose mean
        probability under the base is at least 1e-5.
    """
    check_fit(model, steer)
    if steer.site != "output":
        raise UnsupportedError(
            "word shifts come from one pass that a steer at the input site changes; compare two "
            "calls of the model under lmsteer.attach instead"
        )
    head = read_head(model)
    hidden = _last_states(model, tokenizer, prompts)
    moved = hidden + strength * (hidden @ steer.P.to(hidden)) @ steer.Q.T.to(hidden)
    change = torch.zeros(len(head.weight), dtype=torch.float64)
    chance = torch.zeros_like(change)
    with torch.no_grad():
        for part in head.chunks(len(hidden)):
            base = head.logits(hidden[part]).log_softmax(-1)
            change += (head.logits(moved[part]).log_softmax(-1) - base).sum(0).double().cpu()
            chance += base.exp().sum(0).double().cpu()
    change, chance = change / len(hidden), chance / len(hidden)
    ids, names = whole_words(tokenizer, len(change))
    seen = [
        Shift(name, float(change[i]), float(chance[i]))
        for i, name in zip(ids, names, strict=True)
        if chance[i] >= LEAST_CHANCE
    ]
    seen.sort(key=lambda shift: shift.change)
    gains = [shift for shift in seen[::-1] if shift.change > 0]
    return gains[:count], [shift for shift in seen if shift.change < 0][:count]


def whole_words(tokenizer: PreTrainedTokenizerBase, size: int) -> tuple[list[int], list[str]]:
    """Tokens that begin a word and are letters alone, at least 3, with what they spell."""
    found = pieces(tokenizer, size)
    spaced = any(piece.startswith(" ") for piece in found.values())
    chosen = {
        number: piece.strip()
        for number, piece in found.items()
        if len(piece.strip()) >= LEAST_LETTERS
        and piece.strip().isalpha()
        and (piece.startswith(" ") or not spaced)
    }
    return list(chosen), list(chosen.values())


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


def _svd(steer: Steer) -> tuple[Tensor, Tensor, Tensor]:
    """``(dim, rank)`` left and right directions and the scales between, never a square matrix."""
    basis_p, core_p = torch.linalg.qr(steer.P.double())
    basis_q, core_q = torch.linalg.qr(steer.Q.double())
    left, scale, right_t = torch.linalg.svd(core_p @ core_q.T)
    return (basis_p @ left).float(), scale.float(), (basis_q @ right_t.T).float()


def _ends(scores: Tensor, names: Sequence[str], count: int) -> tuple[Scored, Scored]:
    order = scores.argsort(descending=True).tolist()
    return (
        [(names[i], float(scores[i])) for i in order[:count]],
        [(names[i], float(scores[i])) for i in order[::-1][:count]],
    )
