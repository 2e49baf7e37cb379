"""A model's scores rewritten with the help of models that read the same text beside it."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...errors import InputError, UnsupportedError
from ...model import cache_name, decoder_start, unwrap

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, eq=False)
class Reading:
    """What a causal model is given to read in one forward call.

    Args:
        ids: ``(rows, seq)`` tokens, without those that were read in earlier calls.
        mask: ``(rows, past + seq)``, 0 on pads at either end.
        positions: ``(rows, seq)``, the place of each token in its text.
        past: The number of tokens per row that were read in earlier calls; 0 for a new text.
        cached: Whether later calls may continue from this one.
        keep: At how many of the last positions scores are wanted; 0 for all positions.
    """

    ids: Int[Tensor, "rows seq"]
    mask: Int[Tensor, "rows total"]
    positions: Int[Tensor, "rows seq"]
    past: int
    cached: bool
    keep: int

    def behind(self, codes: Sequence[int]) -> Reading:
        """The same text behind each of some tokens, rows in the order of the tokens.

        The token stands before any pads on the left; where positions are given, as they are in
        generation, that reads as if it stood right before the text.
        """
        count, rows = len(codes), len(self.ids)
        front = torch.tensor(codes, device=self.ids.device).repeat_interleave(rows)[:, None]
        ids = self.ids.repeat(count, 1)
        positions = self.positions.repeat(count, 1) + 1
        mask = torch.cat([torch.ones_like(self.mask[:, :1]), self.mask], 1).repeat(count, 1)
        if not self.past:
            ids = torch.cat([front.to(ids), ids], 1)
            positions = torch.cat([torch.zeros_like(front), positions], 1)
        return Reading(ids, mask, positions, self.past and self.past + 1, self.cached, 0)


class Guide:
    """A model that reads along, call by call, with a cache of its own."""

    def __init__(self, model: nn.Module, device: torch.device | None = None) -> None:
        self.model: Any = unwrap(model if device is None else model.to(device))
        self.cache: Any = None

    def scores(self, reading: Reading) -> Float[Tensor, "rows kept vocab"]:
        """Its scores of the next token at the positions that are wanted."""
        from transformers import DynamicCache

        taken = inspect.signature(self.model.forward).parameters
        options: dict[str, Any] = {"use_cache": reading.cached}
        if not reading.past:
            self.cache = DynamicCache(config=self.model.config) if reading.cached else None
        if self.cache is not None:
            options[cache_name(self.model)] = self.cache
        if "position_ids" in taken:
            options["position_ids"] = reading.positions
        if reading.keep and "logits_to_keep" in taken:
            options["logits_to_keep"] = reading.keep
        output = self.model(input_ids=reading.ids, attention_mask=reading.mask, **options)
        scores: Tensor = output.logits[:, -reading.keep :] if reading.keep else output.logits
        return scores


Rewrite = Callable[[Float[Tensor, "rows kept vocab"], Reading], Tensor]
"""From the model's own scores, and what it read, to the scores that it is to give."""


@contextlib.contextmanager
def rewritten(model: PreTrainedModel, rewrite: Rewrite) -> Iterator[PreTrainedModel]:
    """Within the block, the model gives rewritten scores.

    Whole texts and calls that go on from a cache both work: what `rewrite` reads beside begins
    anew when the model's own cache was empty.

    Raises:
        UnsupportedError: The model is an encoder-decoder; on the forward pass, inputs were given
            as embeddings.
        InputError: On the forward pass, the cache holds tokens that were not read in the block.
    """
    if decoder_start(model) is not None:
        raise UnsupportedError(
            f"{type(model).__name__} is an encoder-decoder model; this method needs a causal one"
        )
    signature = inspect.signature(unwrap(model).forward)
    seen = 0

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        nonlocal seen
        reading = _reading(module, signature.bind_partial(*args, **kwargs).arguments, output)
        if reading.past and reading.past != seen:
            raise InputError(
                f"the model's cache holds {reading.past} tokens of which the models beside it "
                f"have read {seen}; begin with an empty cache (share_prompts=False)"
            )
        output.logits = rewrite(output.logits, reading)
        seen = reading.mask.shape[1]
        return output

    handle = unwrap(model).register_forward_hook(hook, with_kwargs=True)
    try:
        yield model
    finally:
        handle.remove()


def _reading(model: PreTrainedModel, given: Mapping[str, Any], output: Any) -> Reading:
    ids = given.get("input_ids")
    if ids is None:
        raise UnsupportedError("the models beside read token ids, and none were given (input_ids)")
    cache = given.get(cache_name(model))
    cache = output.get(cache_name(model)) if cache is None else cache
    length = ids.shape[1]
    past = 0 if cache is None else int(cache.get_seq_length()) - length
    mask, positions = given.get("attention_mask"), given.get("position_ids")
    if mask is None:
        mask = ids.new_ones(len(ids), past + length)
    if positions is None:  # as the model itself counts, whatever the mask
        positions = torch.arange(past, past + length, device=ids.device)[None]
    keep = given.get("logits_to_keep", 0)
    return Reading(ids, mask, positions.expand(len(ids), -1), past, cache is not None, keep)


def one_beam(options: Mapping[str, Any]) -> None:
    """Refuse beam search, which moves rows of the model's cache and of no other."""
    if options.get("beams", 1) > 1:
        raise UnsupportedError("models that read beside cannot follow beams; leave beams at 1")
