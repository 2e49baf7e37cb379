"""Sampling whose random numbers belong to a record, not to the batch it is computed in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..steer import Steer

# The number of likeliest tokens that are looked at first: most nuclei are smaller, and for small
# models sorting the whole vocabulary at every token would cost more than the model itself.
_FIRST = 512


@dataclass(frozen=True, eq=False)
class Row:
    """One text to be written.

    Args:
        prompt: The number of its prompt.
        strengths: The strength of each steer.
        sample: The number of the sample among those of its prompt and strengths.
        mix: The number of its strengths among the mappings of the call.
    """

    prompt: int
    strengths: Mapping[Steer, float]
    sample: int
    mix: int = 0

    def beside(self, attached: Mapping[Steer, float]) -> Row:
        """The same row, with the strengths of the attached steers added to its own."""
        if not attached:
            return self
        total = dict(attached)
        for steer, strength in self.strengths.items():
            total[steer] = total.get(steer, 0.0) + strength
        return replace(self, strengths=total)


def uniforms(
    prompts: Sequence[str], batch: Sequence[Row], seed: int, length: int
) -> Float[Tensor, "rows length"]:
    """Uniform numbers in [0, 1); each row depends on its own record alone."""
    drawn = torch.empty(len(batch), length)
    for i, row in enumerate(batch):
        # By name, not by the steers' values, which differ a little from machine to machine: steers
        # of one name at equal strengths get the same random numbers.
        mix = sorted((steer.name, float(value)) for steer, value in row.strengths.items() if value)
        key = repr((seed, prompts[row.prompt], mix, row.sample))
        number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big")
        drawn[i] = torch.rand(length, generator=torch.Generator().manual_seed(number))
    return drawn


class Pick:
    """A logits processor that samples: it leaves one token possible, which greedy search takes.

    It inverts the cumulative distribution, which needs one random number per token, drawn
    beforehand. Sampling by torch would make every row depend on the others of its batch.
    """

    def __init__(self, drawn: Float[Tensor, "rows length"], temperature: float, top_p: float):
        self.drawn, self.temperature, self.top_p = drawn, temperature, top_p
        self.base: Callable[[], Float[Tensor, "rows vocab"]] | None = None
        """The unsteered scores of this step, where the nucleus is to be theirs."""
        self.step = 0

    def __call__(
        self, input_ids: Tensor, scores: Float[Tensor, "rows vocab"]
    ) -> Float[Tensor, "rows vocab"]:
        """The scores as they are at temperature 0; else 0 for the drawn token, -inf elsewhere."""
        if self.temperature == 0:
            return scores
        chance = (scores.float() / self.temperature).softmax(-1)
        drawn = self.drawn[:, self.step, None]
        self.step += 1
        ranked = chance if self.base is None else self._unsteered(scores)
        top, ids = _likeliest(ranked, _FIRST)
        chosen = _draw(top, ids, chance, drawn, self.top_p)
        wide = (top.sum(-1) < self.top_p).nonzero()[:, 0]
        if len(wide) and top.shape[1] < chance.shape[1]:
            top, ids = _likeliest(ranked[wide], chance.shape[1])
            chosen[wide] = _draw(top, ids, chance[wide], drawn[wide], self.top_p)
        return torch.full_like(scores, float("-inf")).scatter_(-1, chosen, 0.0)

    def _unsteered(self, scores: Float[Tensor, "rows vocab"]) -> Float[Tensor, "rows vocab"]:
        """The probabilities of the unsteered model, over the tokens that are allowed."""
        assert self.base is not None
        base = self.base().to(scores.device).float() / self.temperature
        return base.masked_fill(scores == float("-inf"), float("-inf")).softmax(-1)


def _likeliest(chance: Float[Tensor, "rows vocab"], count: int) -> tuple[Tensor, Tensor]:
    """The `count` greatest values of each row, in falling order, and their places."""
    width = chance.shape[1]
    count = min(count, width)
    if chance.device.type != "cpu":
        top, ids = chance.topk(count)
        return top, ids
    # numpy sorts integers ten times as fast as torch sorts numbers with their places. Bits of
    # positive floats are in the order of the numbers; equal ones go by their place.
    bits = chance.contiguous().view(torch.int32).long()
    keys = ((bits << 32) | torch.arange(width)).numpy()
    if count < width:
        keys = np.partition(keys, width - count, axis=-1)[:, width - count :]
    found = torch.from_numpy(np.sort(keys, axis=-1)[:, ::-1].copy())
    values = (found >> 32).int().view(torch.float32)
    return values, found & 0xFFFFFFFF


def _draw(
    top: Float[Tensor, "rows few"],
    ids: Int[Tensor, "rows few"],
    chance: Float[Tensor, "rows vocab"],
    drawn: Float[Tensor, "rows 1"],
    top_p: float,
) -> Int[Tensor, "rows 1"]:
    """One of `ids` per row, drawn by its probability among those of the nucleus.

    Args:
        top: The probabilities that decide the nucleus, falling from left to right.
        ids: The tokens of these probabilities.
        chance: The probabilities by which the tokens of the nucleus are drawn.
        drawn: Random numbers in [0, 1).
        top_p: The share of the probability that the nucleus has.
    """
    # The nucleus holds every token before which less than top_p has been reached.
    inside = top.cumsum(-1) - top < top_p
    share = (chance.gather(-1, ids) * inside).cumsum(-1)
    place = torch.searchsorted(share, drawn * share[:, -1:], right=True)
    return ids.gather(-1, place.minimum(inside.sum(-1, keepdim=True) - 1))
