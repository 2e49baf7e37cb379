"""One token per row, drawn from its nucleus, without sorting the vocabulary.

The definition is one line per token: in falling order of probability (equal ones: the larger token
id first), a token is in the nucleus if less than `top_p` has been reached before it; the drawn one
is the first at which the running share passes ``u`` times that of the whole nucleus. With
``top_p=1`` every token is in, and the shares add up to 1.

To tell the drawn token, the sorted list is needed only as far as the nucleus goes (with
``top_p=1``: as far as ``u``). At most ``1 / least`` tokens can have a probability of `least` or
more, so these are picked out and sorted; where they do not reach far enough, `least` falls. Sums
are in float64 and in sorted order, so that the result is that of sorting everything.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..errors import InputError

_LEAST = (2.0**-10, 2.0**-14, 2.0**-18, 2.0**-22, 0.0)
_AT_ONCE = 1 << 22
"""The number of probabilities that are looked at together; more would not stay in the cache."""
_FIRST, _NEXT = 512, 4096
"""The numbers of likeliest tokens that are looked at on an accelerator, before all are."""


def draw(
    ranked: Float[Tensor, "rows vocab"],
    chance: Float[Tensor, "rows vocab"],
    drawn: Float[Tensor, " rows"],
    top_p: float,
) -> Int[Tensor, " rows"]:
    """One token per row, drawn by its probability among those of the nucleus.

    Args:
        ranked: The probabilities that order the tokens and decide the nucleus.
        chance: The probabilities by which the tokens of the nucleus are drawn; mostly `ranked`.
        drawn: Random numbers in [0, 1).
        top_p: The share of the probability that the nucleus has, above 0 and at most 1.

    Raises:
        InputError: A row has no probabilities: the scores were NaN, or all of them -inf.
    """
    if ranked.device.type != "cpu":
        return _draw_by_topk(ranked, chance, drawn, top_p)
    order, weights, numbers = ranked.numpy(), chance.numpy(), drawn.double().numpy()
    found = np.empty(len(order), np.int64)
    at_once = max(1, _AT_ONCE // order.shape[1])
    for start in range(0, len(order), at_once):
        left = np.arange(start, min(start + at_once, len(order)))
        for least in _LEAST:
            whole = len(left) == at_once or len(left) == len(order)
            part: Any = slice(left[0], left[-1] + 1) if whole else left
            above = _above(order[part], None if chance is ranked else weights[part], least)
            tokens, told = _drawn_from(above, numbers[left], top_p, last=least == 0.0)
            found[left[told]] = tokens[told]
            left = left[~told]
            if not len(left):
                break
    return torch.from_numpy(found)


class _Above(NamedTuple):
    """The tokens of at least some probability, in falling order; rows with fewer end in 0."""

    ids: Int[np.ndarray, "rows few"]
    top: Float[np.ndarray, "rows few"]
    """The probabilities that order them."""
    own: Float[np.ndarray, "rows few"]
    """Those by which they are drawn."""


def _above(
    ranked: Float[np.ndarray, "rows vocab"],
    chance: Float[np.ndarray, "rows vocab"] | None,
    least: float,
) -> _Above:
    rows, vocab = ranked.shape
    flat = np.flatnonzero((ranked >= least).ravel())
    row, place = np.divmod(flat, vocab)
    counts = np.bincount(row, minlength=rows)
    if least == 0.0 and not counts.all():
        raise InputError(
            "the model's scores for the next token are NaN, or all of them -inf, so no token can "
            "be drawn: use a smaller strength, or load the model in bfloat16 or float32"
        )
    column = np.arange(len(flat)) - np.repeat(counts.cumsum() - counts, counts)
    # Bits of positive floats are in the order of the numbers; equal ones go by their place. numpy
    # sorts such integers ten times as fast as torch sorts numbers with their places.
    keys = np.full((rows, max(1, counts.max(initial=0))), -1, np.int64)
    bits = ranked.ravel()[flat].view(np.int32).astype(np.int64)
    keys[row, column] = bits << 32 | place
    keys.sort(axis=1)
    keys = keys[:, ::-1]
    ids = np.where(keys < 0, 0, keys & 0xFFFFFFFF)
    top = np.where(keys < 0, 0, keys >> 32).astype(np.int32).view(np.float32)
    if chance is None:
        return _Above(ids, top, top)
    return _Above(ids, top, np.where(keys < 0, 0, np.take_along_axis(chance, ids, 1)))


def _drawn_from(
    above: _Above, drawn: Float[np.ndarray, " rows"], top_p: float, *, last: bool
) -> tuple[Int[np.ndarray, " rows"], Bool[np.ndarray, " rows"]]:
    """The drawn token of each row, and whether these tokens reach far enough to tell it."""
    row = np.arange(len(drawn))
    share = above.own.cumsum(1, dtype=np.float64)
    if top_p < 1:
        reached = above.top.cumsum(1, dtype=np.float64)
        inside = 1 + (reached[:, :-1] < top_p).sum(1)
        told = reached[:, -1] >= top_p
        mass = share[row, inside - 1]
        wanted = drawn * mass
    else:
        told, mass, wanted = share[:, -1] > drawn, share[:, -1], drawn
    # The shares' sum may be a little below 1: then the last token that has a share.
    place = np.minimum((share <= wanted[:, None]).sum(1), (share < mass[:, None]).sum(1))
    return above.ids[row, place], told | last


def _draw_by_topk(ranked: Tensor, chance: Tensor, drawn: Tensor, top_p: float) -> Tensor:
    """`draw` on an accelerator, where picking the likeliest few is quick; sums are in float32."""
    vocab = ranked.shape[1]
    found = torch.empty(len(ranked), dtype=torch.int64, device=ranked.device)
    left = torch.arange(len(ranked), device=ranked.device)
    for count in (_FIRST, _NEXT, vocab):
        top, ids = ranked[left].topk(min(count, vocab))
        inside = top.cumsum(-1) - top < top_p
        share = (chance[left].gather(-1, ids) * inside).cumsum(-1)
        place = torch.searchsorted(share, drawn[left, None] * share[:, -1:], right=True)
        place = place.minimum(inside.sum(-1, keepdim=True) - 1)
        found[left] = ids.gather(-1, place)[:, 0]
        wide = top.sum(-1) < top_p
        left = left[wide]
        if count >= vocab or not len(left):
            break
    return found
