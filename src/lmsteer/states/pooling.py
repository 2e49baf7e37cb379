"""Each text as one row of numbers: hidden states of a few layers, pooled over its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import InputError
from ..model import context_length, evaluating, input_device, read_layers, unwrap
from ..text import batch_rows, encoder_ids, padded, prompt_ids
from .progress import Progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

POOLS = ("mean", "last")
LONGEST = 256
"""The number of tokens of a text that are read; the sentence encoder was trained on as many."""
# On a CPU a batch that fits its caches is faster than a larger one.
_TOKENS_AT_ONCE = {"cpu": 1024}


@dataclass(frozen=True)
class Pooling:
    """How a model reads a text, and which of its hidden states are kept.

    Args:
        layers: The numbers of the layers, counted from 0.
        pools: ``"mean"``, over the tokens of the text alone, and ``"last"``, the last token that is
            read, in any order.
        before: What is read before each text.
        after: What is read after each text. A cue such as ``" Overall, it was"`` makes the last
            state of a language model sum the text up.

    Raises:
        InputError: There is no layer or no pool, or a pool of another name.
    """

    layers: tuple[int, ...]
    pools: tuple[str, ...] = ("mean",)
    before: str = ""
    after: str = ""

    def __post_init__(self) -> None:
        if not self.layers or not self.pools or not set(self.pools) <= set(POOLS):
            raise InputError(
                f"a pooling needs layers, and pools among {', '.join(POOLS)}; "
                f"was: {self.layers}, {self.pools}"
            )


def read_pooled(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    pooling: Pooling,
    *,
    progress: Progress | None = None,
) -> Float[Tensor, "texts features"]:
    """One row of features per text; texts of about one length are read together.

    Args:
        model: A language model or an encoder, in the dtype that it computes in.
        tokenizer: The model's own.
        texts: Any texts; of longer ones the first 256 tokens are read, or as many as the model
            takes.
        pooling: The layers, the pools and the cues.
        progress: Called as ``progress("read", done, total)``, in texts.

    Returns:
        ``(texts, pools * layers * dim)`` float32 on the CPU: for each pool, a state per layer.

    Raises:
        InputError: The model has no such layer.
    """
    rows, begins, ends = _encoded(model, tokenizer, texts, pooling)
    device = input_device(model)
    found: list[Tensor | None] = [None] * len(rows)
    done = 0
    with evaluating(model), torch.inference_mode():
        for numbers in batch_rows(rows, _TOKENS_AT_ONCE.get(device.type, 16384)):
            ids, mask = padded([rows[i] for i in numbers], 0)
            inputs = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
            states = torch.stack(read_layers(model, pooling.layers, **inputs), 1).float().cpu()
            own = torch.zeros(ids.shape)
            for place, i in enumerate(numbers):
                own[place, begins[i] : ends[i]] = 1.0 / (ends[i] - begins[i])
            pools = {
                "mean": torch.einsum("tlsd,ts->tld", states, own),
                "last": states[torch.arange(len(ids)), :, mask.sum(1) - 1],
            }
            pooled = torch.cat([pools[pool].flatten(1) for pool in pooling.pools], 1)
            for number, row in zip(numbers, pooled, strict=True):
                found[number] = row
            done += len(numbers)
            if progress:
                progress("read", done, len(rows))
    return torch.stack([row for row in found if row is not None]) if rows else torch.zeros(0, 0)


def _encoded(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], pooling: Pooling
) -> tuple[list[list[int]], list[int], list[int]]:
    """The ids of each text with its cues, and where its own tokens begin and end."""
    most = min(LONGEST, context_length(model) or LONGEST)
    get: Any = getattr(unwrap(model), "get_output_embeddings", lambda: None)
    if get() is None:  # an encoder reads its marks of beginning and end as a part of the text
        whole = [f"{pooling.before}{text}{pooling.after}" for text in texts]
        rows = encoder_ids(tokenizer, whole, max_length=most)
        return rows, [0] * len(rows), [len(row) for row in rows]
    (lead,) = prompt_ids(tokenizer, [pooling.before])
    (cue,) = tokenizer([pooling.after], add_special_tokens=False)["input_ids"]
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else 0
    bare = tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
    # A text of no token still has a state: that of the model's end of text.
    own = [list(row)[: most - len(lead) - len(cue)] or [end] for row in bare]
    return (
        [[*lead, *row, *cue] for row in own],
        [len(lead)] * len(own),
        [len(lead) + len(row) for row in own],
    )
