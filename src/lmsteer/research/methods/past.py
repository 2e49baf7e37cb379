"""What is read before the user's text: keys and values in the cache, learned or of a text."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...errors import UnsupportedError
from ...model import cache_name, decoder_start, is_stateful, unwrap

if TYPE_CHECKING:
    from transformers import DynamicCache, PreTrainedModel


@contextlib.contextmanager
def with_past(
    model: PreTrainedModel, past: DynamicCache, swap: tuple[int, int] | None = None
) -> Iterator[PreTrainedModel]:
    """Within the block, the model reads every text as if `past` stood before it.

    Generation and scoring go on as ever: the hook fills the empty cache of a forward call, and
    makes room for it in the mask and in the positions of all calls. Give `lmsteer.generate`
    ``share_prompts=False``, which fills the cache itself. A batch has its pads between `past` and
    the prompts: where layers see a sliding window, pads take room in it, so that a short prompt
    beside a long one may see less of `past` than it would alone.

    Args:
        model: A causal model with a cache of keys and values.
        past: Keys and values of one row; they are copied for each batch.
        swap: Two tokens: a text that begins with the first begins with the second instead.

    Raises:
        UnsupportedError: The model is an encoder-decoder, or its state is no such cache.
    """
    if decoder_start(model) is not None or is_stateful(model):
        raise UnsupportedError(
            f"{type(model).__name__} does not keep keys and values of what it has read, which "
            "this method needs; use a decoder with attention"
        )
    name, length = cache_name(model), past.get_seq_length()
    arguments = list(inspect.signature(unwrap(model).forward).parameters)

    def before(module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        given: dict[str, Any] = dict(zip(arguments, args, strict=False)) | kwargs
        ids, mask, cache = given["input_ids"], given.get("attention_mask"), given.get(name)
        if cache is None or cache.get_seq_length() == 0:
            given[name] = copy.deepcopy(past)
            given[name].batch_repeat_interleave(len(ids))
            if swap is not None:
                given["input_ids"] = _swapped(ids, mask, swap)
        if mask is not None:
            given["attention_mask"] = _widened(mask, length)
        for key in ("position_ids", "cache_position"):
            if given.get(key) is not None:
                given[key] = given[key] + length
        return (), given

    handle = unwrap(model).register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield model
    finally:
        handle.remove()


def _widened(mask: Tensor, length: int) -> Tensor:
    """The mask with so many more positions at its left, all seen."""
    shape = (*mask.shape[:-1], length)
    return torch.cat([mask.new_ones(shape), mask], dim=-1)


def _swapped(ids: Tensor, mask: Tensor | None, swap: tuple[int, int]) -> Tensor:
    """Another first token, in rows that begin with ``swap[0]`` after their pads."""
    rows = torch.arange(len(ids), device=ids.device)
    first = torch.zeros_like(rows) if mask is None else mask.argmax(-1)
    changed = ids.clone()
    changed[rows, first] = torch.where(ids[rows, first] == swap[0], swap[1], ids[rows, first])
    return changed
