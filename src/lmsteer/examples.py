"""Labelled text: `Example`, and its tokenised form with pads and prompts masked."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Weight = Literal["token", "text"]


@dataclass(frozen=True)
class Example:
    """A labelled text.

    Args:
        text: What the steer learns to write more of at strength `label`.
        label: The strength at which it is learned, in [-1, 1]; graded labels are welcome. A tuple
            holds one for each of several styles that are learned together; 0 where a style says
            nothing of the text.
        prompt: Read before `text` but never a target. Joined as it is: begin `text` with a
            space where words should be parted.

    Raises:
        InputError: Empty text, or a label out of range.
    """

    text: str
    label: float | tuple[float, ...]
    prompt: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text.strip():
            raise InputError(f"text must be a non-empty string, was: {self.text!r}")
        for label in self.labels or ("none",):
            if not isinstance(label, int | float) or not -1.0 <= label <= 1.0:
                raise InputError(
                    f"label must be a number between -1 and 1 (inclusive), was: {label!r}; "
                    "grades such as 0..4 can be mapped with scale=(0, 4)"
                )

    @property
    def labels(self) -> tuple[float, ...]:
        """One label for each style; most often there is one style."""
        return self.label if isinstance(self.label, tuple) else (self.label,)

    @property
    def digest(self) -> str:
        """SHA-256 of its content, hex: the same on every machine, whatever the order of files."""
        labels = "\x1f".join(repr(float(label)) for label in self.labels)
        content = f"{self.prompt}\x1f{self.text}\x1f{labels}"
        return hashlib.sha256(content.encode()).hexdigest()


def digest_of(examples: Sequence[Example]) -> str:
    """SHA-256 of a set of examples, hex; the order does not matter."""
    return hashlib.sha256("".join(sorted(e.digest for e in examples)).encode()).hexdigest()


def split_held_out(
    examples: Sequence[Example], share: float, *, salt: str = ""
) -> tuple[list[int], list[int]]:
    """Numbers of the examples to learn from and of those held out.

    Chosen by content, so the split does not depend on the order; equal texts fall on one side.

    Args:
        examples: At least one.
        share: Share of the examples to hold out, in [0, 1). Nothing is held out of fewer than
            20 examples: they cannot be spared, and measure nothing.
        salt: Another salt gives another split.
    """
    if not 0.0 <= share < 1.0:
        raise InputError(f"held_out must be in [0, 1), was: {share}")
    if len(examples) < 20 or share == 0.0:
        return list(range(len(examples))), []
    keys = [
        hashlib.sha256(f"{salt}\x1f{e.prompt}\x1f{e.text}".encode()).hexdigest() for e in examples
    ]
    cut = sorted(set(keys))[max(0, math.ceil(share * len(set(keys))) - 1)]
    kept = [i for i, key in enumerate(keys) if key > cut]
    return kept, [i for i, key in enumerate(keys) if key <= cut]


@dataclass(frozen=True, eq=False)
class Encoded:
    """Tokenised examples. Texts without any target token are already left out.

    Args:
        ids: Token ids of each text, prompt included.
        starts: ``(texts,)`` number of the first token that may be a target, at least 1.
        labels: ``(texts, styles)`` in [-1, 1].
        token_weights: ``(texts,)`` what each target token of the text counts; averages 1 over
            tokens.
        source: The number of each text among the examples that were given.
        truncated: How many texts were cut to the model's context.
        skipped: How many texts had no target token (one-token texts, prompts that fill the
            context).
        pad_id: Any valid id; pads are masked.
    """

    ids: list[list[int]]
    starts: Int[Tensor, " texts"]
    labels: Float[Tensor, "texts styles"]
    token_weights: Float[Tensor, " texts"]
    source: list[int]
    truncated: int
    skipped: int
    pad_id: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def only(self, texts: Sequence[int]) -> Encoded:
        """The given texts alone."""
        index = torch.tensor(list(texts), dtype=torch.int64)
        return replace(
            self,
            ids=[self.ids[i] for i in texts],
            starts=self.starts[index],
            labels=self.labels[index],
            token_weights=self.token_weights[index],
            source=[self.source[i] for i in texts],
        )

    @property
    def target_counts(self) -> Int[Tensor, " texts"]:
        """``(texts,)`` number of target tokens of each text."""
        return torch.tensor([len(ids) for ids in self.ids]) - self.starts


def encode(
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    *,
    max_length: int,
    weight: Weight | str = "token",
    balance: bool = False,
) -> Encoded:
    """Tokenise examples and weigh them. The tokenizer is left as it was.

    A prompt and its text are tokenised apart, as they are when a model continues a prompt. The
    tokenizer's own beginning-of-text token is kept; an end token is not a target, because it
    would dominate what the domain part learns.

    Args:
        tokenizer: Of the model that will read the texts.
        examples: At least one.
        max_length: Longer texts are cut to so many tokens, and counted.
        weight: ``"token"``, every target token counts the same; ``"text"``, every text does.
        balance: Scale the weights so that both signs of the label carry the same total of
            ``weight * |label|``; neutral texts keep theirs.
    """
    if weight not in ("token", "text"):
        raise InputError(f'weight must be "token" or "text", was: {weight!r}')
    ids: list[list[int]] = []
    starts: list[int] = []
    source: list[int] = []
    truncated = skipped = 0
    rows = token_rows(tokenizer, [e.prompt for e in examples], [e.text for e in examples])
    for number, (head, body) in enumerate(rows):
        truncated += len(head) + len(body) > max_length
        row = (head + body)[:max_length]
        start = max(len(head), 1)  # the very first token has no context to be predicted from
        if start >= len(row):
            skipped += 1
            continue
        ids.append(row)
        starts.append(start)
        source.append(number)
    if not ids:
        raise InputError(
            f"none of the {len(examples)} texts has a token to learn from: each needs at least "
            "two tokens, or a prompt and one"
        )
    labels = torch.tensor([[float(label) for label in examples[i].labels] for i in source])
    counts = torch.tensor([len(row) for row in ids]) - torch.tensor(starts)
    weights = torch.ones(len(ids)) if weight == "token" else 1.0 / counts
    if balance:
        if labels.shape[1] > 1:
            raise InputError("balance= evens out one style; with several labels a text, leave it")
        label = labels[:, 0]
        sides = [label > 0, label < 0]
        masses = [(weights * counts * label.abs())[side].sum() for side in sides]
        for side, mass in zip(sides, masses, strict=True):
            weights[side] *= sum(masses) / (2 * mass) if mass > 0 else 1.0
    weights = weights * counts.sum() / (weights * counts).sum()
    pad = getattr(tokenizer, "pad_token_id", None)
    return Encoded(ids, torch.tensor(starts), labels, weights, source, truncated, skipped, pad or 0)


def token_rows(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], texts: Sequence[str]
) -> Iterator[tuple[list[int], list[int]]]:
    """For each text, the ids that are only read (special tokens, prompt) and the text's own."""
    lead = _leading_special(tokenizer)
    bodies = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    heads = tokenizer(list(prompts), add_special_tokens=False)["input_ids"]
    for head, body in zip(heads, bodies, strict=True):
        yield lead + list(head), list(body)


def _leading_special(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The special tokens that this tokenizer puts before a text (`<s>`, or nothing)."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = list(tokenizer("a")["input_ids"])
    for start in range(len(full) - len(plain) + 1):
        if full[start : start + len(plain)] == list(plain):
            return full[:start]
    return []


@dataclass(frozen=True, eq=False)
class Batch:
    """Texts padded on the right to one length.

    Args:
        input_ids: ``(rows, seq)``.
        attention_mask: ``(rows, seq)``, 0 on pads.
        is_target: ``(rows, seq)``, True where the token is learned: never on pads, prompts or
            the first token.
        labels: ``(rows, styles)``.
        text: ``(rows,)``, number of each row among the encoded texts.
    """

    input_ids: Int[Tensor, "rows seq"]
    attention_mask: Int[Tensor, "rows seq"]
    is_target: Bool[Tensor, "rows seq"]
    labels: Float[Tensor, "rows styles"]
    text: Int[Tensor, " rows"]


def batch_texts(encoded: Encoded, tokens: int) -> Iterator[list[int]]:
    """All texts once, by number, sorted by length, in batches of at most `tokens` ids and pads."""
    order = sorted(range(len(encoded)), key=lambda i: len(encoded.ids[i]), reverse=True)
    start = 0
    while start < len(order):
        rows = max(1, tokens // len(encoded.ids[order[start]]))
        yield order[start : start + rows]
        start += rows


def pad_batch(encoded: Encoded, texts: Sequence[int]) -> Batch:
    """The given texts as one batch."""
    length = max(len(encoded.ids[i]) for i in texts)
    input_ids = torch.full((len(texts), length), encoded.pad_id, dtype=torch.int64)
    lengths = torch.tensor([len(encoded.ids[i]) for i in texts])
    for row, i in enumerate(texts):
        input_ids[row, : lengths[row]] = torch.tensor(encoded.ids[i])
    text = torch.tensor(list(texts), dtype=torch.int64)
    position = torch.arange(length)[None]
    real = position < lengths[:, None]
    is_target = real & (position >= encoded.starts[text][:, None])
    return Batch(input_ids, real.long(), is_target, encoded.labels[text], text)


def summary(examples: Sequence[Example], style: int = 0) -> dict[str, Any]:
    """Counts by sign of the label, and the digest: what a steer's record keeps of its data."""
    labels = [e.labels[style] for e in examples]
    signs = [(label > 0) - (label < 0) for label in labels]
    return {
        "texts": len(examples),
        "positive": signs.count(1),
        "neutral": signs.count(0),
        "negative": signs.count(-1),
        "sha256": digest_of(examples),
    }
