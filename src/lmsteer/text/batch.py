"""Encoded texts in batches, with pads and prompts masked."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .encoding import Encoded


@dataclass(frozen=True, eq=False)
class Batch:
    """Texts padded on the right to one length.

    Args:
        input_ids: ``(rows, seq)``, the token ids.
        attention_mask: ``(rows, seq)``, 0 on pads.
        is_target: ``(rows, seq)``, True where the token is learned: never on pads, prompts or
            the first token.
        labels: ``(rows, styles)``, in [-1, 1].
        text: ``(rows,)``, the number of each row among the encoded texts.
        source_ids: ``(rows, source)``, what an encoder reads; None for a causal model.
        source_mask: ``(rows, source)``, 0 on its pads.
    """

    input_ids: Int[Tensor, "rows seq"]
    attention_mask: Int[Tensor, "rows seq"]
    is_target: Bool[Tensor, "rows seq"]
    labels: Float[Tensor, "rows styles"]
    text: Int[Tensor, " rows"]
    source_ids: Int[Tensor, "rows source"] | None = None
    source_mask: Int[Tensor, "rows source"] | None = None

    @property
    def is_prompt(self) -> Bool[Tensor, "rows seq"]:
        """True before the first target of each row; targets, and pads after them, follow."""
        return self.is_target.cumsum(1) == 0

    def inputs(self, device: torch.device) -> dict[str, Tensor]:
        """The arguments of the model's forward pass."""
        ids, mask = self.input_ids.to(device), self.attention_mask.to(device)
        if self.source_ids is None or self.source_mask is None:
            return {"input_ids": ids, "attention_mask": mask}
        return {
            "input_ids": self.source_ids.to(device),
            "attention_mask": self.source_mask.to(device),
            "decoder_input_ids": ids,
            "decoder_attention_mask": mask,
        }


def batch_texts(encoded: Encoded, tokens: int) -> Iterator[list[int]]:
    """All texts once, by number, sorted by length, in batches of at most `tokens` ids and pads."""
    yield from batch_rows(encoded.ids, tokens)


def batch_rows(rows: Sequence[Sequence[int]], tokens: int) -> Iterator[list[int]]:
    """All rows of ids once, by number, in batches as those of `batch_texts`; none is empty."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]), reverse=True)
    start = 0
    while start < len(order):
        count = max(1, tokens // len(rows[order[start]]))
        yield order[start : start + count]
        start += count


def mixed_batches(
    encoded: Encoded, texts: Sequence[int], size: int, shuffler: random.Random
) -> list[list[int]]:
    """The given texts once, in batches of `size`, those of about one length together, at random."""
    order = list(texts)
    shuffler.shuffle(order)
    # Sorted within stretches of many batches: few pads, and still another mix each time.
    stretch = size * 32
    found = []
    for begin in range(0, len(order), stretch):
        part = sorted(order[begin : begin + stretch], key=lambda i: len(encoded.ids[i]))
        found += [part[i : i + size] for i in range(0, len(part), size)]
    shuffler.shuffle(found)
    return found


def endless_batches(
    encoded: Encoded, texts: Sequence[int], size: int, seed: int
) -> Iterator[list[int]]:
    """`mixed_batches` of the given texts, again and again, in another order each time."""
    shuffler = random.Random(seed)
    while True:
        yield from mixed_batches(encoded, texts, size, shuffler)


def pad_batch(encoded: Encoded, texts: Sequence[int]) -> Batch:
    """The given texts as one batch."""
    input_ids, mask = padded([encoded.ids[i] for i in texts], encoded.pad_id)
    text = torch.tensor(list(texts), dtype=torch.int64)
    position = torch.arange(input_ids.shape[1])[None]
    is_target = mask.bool() & (position >= encoded.starts[text][:, None])
    batch = Batch(input_ids, mask, is_target, encoded.labels[text], text)
    if encoded.encoder_inputs is None:
        return batch
    source_ids, source_mask = padded([encoded.encoder_inputs[i] for i in texts], encoded.pad_id)
    return replace(batch, source_ids=source_ids, source_mask=source_mask)


def padded(
    rows: Sequence[Sequence[int]], pad: int, *, left: bool = False
) -> tuple[Int[Tensor, "rows longest"], Int[Tensor, "rows longest"]]:
    """Ids of one length, padded on the right or on the left, and the mask that is 0 on pads."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        place = slice(longest - len(row), longest) if left else slice(0, len(row))
        ids[number, place] = torch.tensor(row, dtype=torch.int64)
        mask[number, place] = 1
    return ids, mask
