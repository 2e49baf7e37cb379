"""One streaming pass: sums over all tokens, and rows of a few; no other state is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from ..model import Head, fingerprint
from ..steer import Fingerprint
from ..text import Encoded
from .cache import Keep
from .expectation import Reading
from .hidden import stream_states
from .processes import ONE_PROCESS, Workers
from .progress import Progress
from .states import States
from .statistics import Statistics, Summing, joined

EVERY = 8
"""The head reads one token in so many."""


@dataclass(frozen=True)
class Part:
    """Some of the texts, and what is gathered from them.

    Args:
        texts: Their numbers.
        sampled: One token in so many is kept with its row; a multiple of `every`.
        every: The head reads one token in so many; 0: none.
    """

    texts: Sequence[int]
    sampled: int
    every: int = EVERY

    @classmethod
    def keeping(cls, encoded: Encoded, texts: Sequence[int], rows: int, every: int) -> Part:
        """Keep about as many rows as that, or all where there are fewer."""
        tokens = int(encoded.target_counts[list(texts)].sum())
        each = max(1, every)
        return cls(texts, each * max(1, round(tokens / (each * rows))), every)


def gather(
    model: nn.Module,
    head: Head,
    encoded: Encoded,
    parts: Sequence[Part],
    *,
    progress: Progress | None = None,
    fast: bool = False,
    keep: Keep | None = None,
    workers: Workers = ONE_PROCESS,
) -> list[Statistics]:
    """Read texts once and add up what steers are solved from.

    Which tokens the head reads depends on the text alone, so the sums of texts that are read
    apart add up to those of texts that are read together, and any number of processes give the
    same.

    Args:
        model: The language model.
        head: Its head, in the dtype in which it is to read.
        encoded: All texts.
        parts: Which texts are gathered apart; those in no part are not read.
        progress: See `stream_states`, as for the others.
        fast: Compute in bf16.
        keep: With a folder, an interrupted pass can go on.
        workers: The processes that share the work.

    Returns:
        The statistics of each part, equal on all processes.
    """
    chosen = [text for part in parts for text in part.texts]
    encoded, owner = encoded.only(chosen), torch.empty(len(chosen), dtype=torch.int64)
    mark, found, start = fingerprint(model), [], 0
    for number, part in enumerate(parts):
        texts = slice(start, start + len(part.texts))
        owner[texts] = number
        tokens = int(encoded.target_counts[texts].sum())
        found.append(_Gathering(head, part, encoded.labels.shape[1], tokens, mark))
        start = texts.stop
    keys = torch.tensor([_key(ids) for ids in encoded.ids])
    stream = stream_states(model, encoded, progress=progress, fast=fast, keep=keep, workers=workers)
    for block in stream:
        text = block.text.cpu()
        place, owners = _number_in_text(text) + keys[text] % _SHIFTS, owner[text]
        block = replace(block, text=keys[text].to(block.device))
        for number, one in enumerate(found):
            own = (owners == number).nonzero()[:, 0]
            if len(own) == len(text):
                one.add(block, place)
            elif len(own):
                one.add(block.take(own), place[own])
    return [one.finish(workers) for one in found]


class _Gathering:
    """The statistics of a part, while its tokens are read."""

    def __init__(self, head: Head, part: Part, styles: int, tokens: int, mark: Fingerprint) -> None:
        self._part, self._tokens, self._mark = part, tokens, mark
        self._device = head.weight.device
        self._summing, self._reading = Summing(head, styles), Reading(head)
        self._kept: list[States] = []

    def add(self, block: States, place: Int[Tensor, " held"]) -> None:
        """Add tokens, with the place of each in its text, shifted."""
        self._summing.add(block)
        if self._part.every:
            read = block.take((place % self._part.every == 0).nonzero()[:, 0])
            self._reading.add(read.hidden, read.weights)
        self._kept.append(block.take((place % self._part.sampled == 0).nonzero()[:, 0]).to("cpu"))

    def finish(self, workers: Workers) -> Statistics:
        """The sums and the sample of all processes."""
        workers.add(*self._summing.sums)
        kept = [few for own in workers.collect(self._kept) for few in own]
        return Statistics.of(
            (len(self._part.texts), self._tokens),
            self._summing.sums,
            self._reading.finish(workers),
            joined(kept).to(self._device),
            self._part.sampled,
            self._mark,
        )


_SHIFTS = 1 << 16  # more than any two strides differ by


def _key(ids: Sequence[int]) -> int:
    """A number that the ids of a text decide, and that no two texts are likely to share."""
    digest = hashlib.blake2b(np.asarray(ids, dtype="<i8").tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _number_in_text(text: Int[Tensor, " held"]) -> Int[Tensor, " held"]:
    """The number of each token in its text; the tokens of a text stand together."""
    begins = torch.ones_like(text, dtype=torch.bool)
    begins[1:] = text[1:] != text[:-1]
    starts = begins.nonzero()[:, 0]
    lengths = torch.diff(starts, append=torch.tensor([len(text)]))
    return torch.arange(len(text)) - torch.repeat_interleave(starts, lengths)
