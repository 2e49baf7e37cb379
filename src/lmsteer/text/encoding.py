"""Text as tokens: prompts, texts, and what encoders read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import InputError
from .example import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Weight = Literal["token", "text"]


@dataclass(frozen=True, eq=False)
class Encoded:
    """Tokenised examples. Texts without any target token are already left out.

    Args:
        ids: The token ids of each text, after those of its prompt; for an encoder-decoder model,
            what the decoder reads.
        starts: ``(texts,)``, the number of the first token that may be a target, at least 1.
        labels: ``(texts, styles)``, in [-1, 1].
        token_weights: ``(texts,)``, the weight of each target token of the text; the mean over all
            target tokens is 1.
        source: The number of each text among the examples that were given.
        truncated: The number of texts that were cut to the model's context.
        skipped: The number of texts without a target token (texts of one token, prompts that fill
            the context).
        pad_id: Any valid id; pads are masked.
        encoder_inputs: The prompt of each text, which the encoder of an encoder-decoder model
            reads; None for other models.
        unpredicted: The number of tokens of each text itself before its first target: 1 where
            nothing stands before the text from which its first token could be predicted.
    """

    ids: list[list[int]]
    starts: Int[Tensor, " texts"]
    labels: Float[Tensor, "texts styles"]
    token_weights: Float[Tensor, " texts"]
    source: list[int]
    truncated: int
    skipped: int
    pad_id: int = 0
    encoder_inputs: list[list[int]] | None = None
    unpredicted: Sequence[int] = ()

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
            encoder_inputs=None
            if self.encoder_inputs is None
            else [self.encoder_inputs[i] for i in texts],
            unpredicted=[self.unpredicted[i] for i in texts],
        )

    @property
    def target_counts(self) -> Int[Tensor, " texts"]:
        """``(texts,)`` number of target tokens of each text."""
        return torch.tensor([len(ids) for ids in self.ids]) - self.starts

    def by_text(self, values: np.ndarray) -> list[np.ndarray]:
        """Values of all targets, ``(targets, ...)``, as one array per text."""
        return np.split(values, np.cumsum(self.target_counts.numpy())[:-1])


def encode(
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    *,
    max_length: int,
    weight: Weight | str = "token",
    balance: bool = False,
    decoder_start: int | None = None,
) -> Encoded:
    """Tokenise examples and weigh them. The tokenizer is left as it was.

    A prompt and its text are tokenised apart, as they are when a model continues a prompt. The
    tokenizer's own beginning-of-text token is kept; an end token is not a target, because it
    would dominate what the domain part learns.

    Args:
        tokenizer: The tokenizer of the model that will read the texts.
        examples: The examples, at least one.
        max_length: The number of tokens that longer texts are cut to; these texts are counted.
        weight: ``"token"``: every target token counts the same; ``"text"``: every text does.
        balance: Scale the weights so that both signs of the label have the same total of
            ``weight * |label|``; neutral texts keep their weights.
        decoder_start: The token that an encoder-decoder model's decoder begins with: its encoder
            reads the prompts, and the texts are the decoder's targets. None: a causal model.
    """
    if weight not in ("token", "text"):
        raise InputError(f'weight must be "token" or "text", was: {weight!r}')
    prompts, texts = [e.prompt for e in examples], [e.text for e in examples]
    plain = encode_pairs(
        tokenizer, prompts, texts, max_length=max_length, decoder_start=decoder_start
    )
    ids, source = plain.ids, plain.source
    if not ids:
        raise InputError(
            f"none of the {len(examples)} texts has a token to learn from: each needs at least "
            "two tokens, or a prompt and one"
        )
    labels = torch.tensor([[float(label) for label in examples[i].labels] for i in source])
    counts = plain.target_counts
    weights = torch.ones(len(ids)) if weight == "token" else 1.0 / counts
    if balance:
        if labels.shape[1] > 1:
            raise InputError(
                "balance= is for one style; leave it out where texts have several labels"
            )
        label = labels[:, 0]
        sides = [label > 0, label < 0]
        masses = [(weights * counts * label.abs())[side].sum() for side in sides]
        for side, mass in zip(sides, masses, strict=True):
            weights[side] *= sum(masses) / (2 * mass) if mass > 0 else 1.0
    weights = weights * counts.sum() / (weights * counts).sum()
    return replace(plain, labels=labels, token_weights=weights)


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    texts: Sequence[str],
    *,
    max_length: int | None,
    decoder_start: int | None = None,
) -> Encoded:
    """Prompts and texts as tokens; the texts' tokens are the targets, labels and weights are 1."""
    ids: list[list[int]] = []
    starts: list[int] = []
    source: list[int] = []
    unpredicted: list[int] = []
    truncated = 0
    bodies = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    if decoder_start is None:
        heads = prompt_ids(tokenizer, prompts)
    else:
        heads = [[decoder_start, *_leading_special(tokenizer)]] * len(bodies)
    for number, (head, body) in enumerate(zip(heads, bodies, strict=True)):
        whole = head + list(body)
        row = whole[:max_length]
        start = max(len(head), 1)  # the very first token has no context to be predicted from
        truncated += len(row) < len(whole)
        if start < len(row):
            ids.append(row)
            starts.append(start)
            source.append(number)
            unpredicted.append(start - len(head))
    encoder_inputs = None
    if decoder_start is not None:
        encoder_inputs = encoder_ids(tokenizer, [prompts[i] for i in source], max_length=max_length)
    pad = getattr(tokenizer, "pad_token_id", None)
    begins, ones = torch.tensor(starts, dtype=torch.int64), torch.ones(len(ids))
    skipped = len(bodies) - len(ids)
    return Encoded(
        ids,
        begins,
        ones[:, None],
        ones,
        source,
        truncated,
        skipped,
        pad or 0,
        encoder_inputs,
        unpredicted,
    )


def target_spans(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], encoded: Encoded
) -> list[list[tuple[int, int]]]:
    """Where in its text each target token stands, as ``(start, end)`` characters.

    Args:
        tokenizer: The tokenizer that encoded them.
        texts: All texts that were given to `encode_pairs`.
        encoded: The result of `encode_pairs`; the spans are in its order.

    A span may begin with the space before its word. Tokens of one character that several share
    (bytes of an emoji) have the same span.
    """
    found = []
    for number, skipped, count in zip(
        encoded.source, encoded.unpredicted, encoded.target_counts.tolist(), strict=True
    ):
        spans = _token_spans(tokenizer, texts[number])
        found.append(spans[skipped : skipped + count])
    return found


def _token_spans(tokenizer: PreTrainedTokenizerBase, text: str) -> list[tuple[int, int]]:
    if getattr(tokenizer, "is_fast", False):
        told = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return [(int(a), int(b)) for a, b in told["offset_mapping"]]
    # Slow tokenizers do not tell: how far each beginning of the ids decodes.
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    ends = [len(str(tokenizer.decode(ids[: i + 1])).rstrip("\ufffd")) for i in range(len(ids))]
    ends = [min(end, len(text)) for end in ends]
    return list(zip([0, *ends[:-1]], ends, strict=True))


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]) -> list[list[int]]:
    """Prompts as a causal model reads them: after the tokenizer's own beginning, without an end."""
    lead = _leading_special(tokenizer)
    rows = tokenizer(list(prompts), add_special_tokens=False)["input_ids"]
    # A chat template writes the beginning itself.
    return [
        list(row) if lead and list(row[: len(lead)]) == lead else lead + list(row) for row in rows
    ]


def encoder_ids(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], *, max_length: int | None = None
) -> list[list[int]]:
    """Prompts as an encoder reads them: with the tokenizer's own beginning and end."""
    rows = [list(row)[:max_length] for row in tokenizer(list(prompts))["input_ids"]]
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else 0
    return [row or [end] for row in rows]


def _leading_special(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The special tokens that this tokenizer puts before a text (`<s>`, or nothing)."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = list(tokenizer("a")["input_ids"])
    for start in range(len(full) - len(plain) + 1):
        if full[start : start + len(plain)] == list(plain):
            return full[:start]
    return []
