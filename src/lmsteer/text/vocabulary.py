"""Words that two vocabularies share: tokens that decode to the same string."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def shared_words(
    source: PreTrainedTokenizerBase,
    target: PreTrainedTokenizerBase,
    source_size: int,
    target_size: int,
) -> tuple[Int[Tensor, " words"], Int[Tensor, " words"]]:
    """The ids of the words that both vocabularies have.

    Tokens that decode to the very same string, leading space included, are taken first; of what
    is left, those that are equal without their spaces (one vocabulary may part words differently).

    Args:
        source: A tokenizer.
        target: Another tokenizer, or the same one.
        source_size: The number of rows of the source's embedding table; ids beyond it are left out.
        target_size: The number of rows of the target's embedding table.

    Returns:
        Two tensors of the same length; no id occurs twice in either.
    """
    left, right = pieces(source, source_size), pieces(target, target_size)
    pairs: dict[int, int] = {}  # from target to source
    for bare in (False, True):
        taken = set(pairs.values())
        places: dict[str, int] = {}
        for number, piece in left.items():
            if number not in taken:
                places.setdefault(piece.strip() if bare else piece, number)
        places.pop("", None)
        for number, piece in right.items():
            key = piece.strip() if bare else piece
            if number not in pairs and key in places:
                pairs[number] = places.pop(key)
    columns = torch.tensor([(s, t) for t, s in pairs.items()], dtype=torch.int64).reshape(-1, 2)
    return columns[:, 0], columns[:, 1]


def pieces(tokenizer: PreTrainedTokenizerBase, size: int) -> dict[int, str]:
    """What each id decodes to inside a text, leading space included; broken bytes left out."""
    before = tokenizer("a", add_special_tokens=False)["input_ids"]
    lead = str(tokenizer.decode(before))
    special = set(tokenizer.all_special_ids)
    # Alone, a token loses its leading space in SentencePiece vocabularies; after a letter it
    # shows it.
    wanted = [i for i in range(min(size, len(tokenizer))) if i not in special]
    found = {}
    for number, text in zip(
        wanted,
        tokenizer.batch_decode([[*before, i] for i in wanted], clean_up_tokenization_spaces=False),
        strict=True,
    ):
        piece = text.removeprefix(lead)
        if text.startswith(lead) and piece and "\ufffd" not in piece:
            found[number] = piece
    return found
