"""One batch through the model: pads, the prompts' shared cache, and the model's own `generate`."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int
from torch import Tensor

from ..errors import InputError, UnsupportedError
from ..model import (
    Head,
    alone,
    around,
    attach,
    base_rows,
    cache_name,
    decoder_start,
    evaluating,
    in_one_product,
    input_device,
    is_stateful,
    learned_prompt,
    read_hidden,
    token_nll,
    unwrap,
    watches,
)
from ..steer import Steer
from ..text import padded
from .options import GenerateOptions
from .sampling import Pick, Row

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Decoding:
    """How a batch is continued: the options of `generate`, and what follows from the model."""

    options: GenerateOptions
    base: Head | None = None
    """The head, where the unsteered model is asked: for the nucleus, or for losses."""
    before: Mapping[Steer, float] = field(default_factory=dict)
    """The steers that the caller had attached to the model before."""
    in_bf16: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext
    """Blocks within which the model computes in bf16, if that is wanted."""


def decode(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Sequence[Sequence[int]],
    batch: Sequence[Row],
    pick: Pick | None,
    how: Decoding,
) -> Int[Tensor, "rows seq"]:
    """The token ids of the continuations, without the prompts.

    Args:
        model: The model that writes.
        tokenizer: The model's own, for its pad and end tokens.
        encoded: The token ids of each row's prompt.
        batch: The rows, with the strengths that each is steered by.
        pick: What draws the tokens; None for beam search, which returns `beams` rows per row.
        how: The options, and what follows from the model.
    """
    from transformers import GenerationConfig, LogitsProcessorList

    pad = tokenizer.pad_token_id
    pad = next(i for i in (pad, tokenizer.eos_token_id, 0) if i is not None)
    start = decoder_start(model)
    # Only PEFT's own generate puts a prompt that PEFT has learned before the text.
    writer: Any = learned_prompt(model) or unwrap(model)
    # A decoder continues at the right end; an encoder may count positions from the left.
    ids, mask = padded(encoded, pad, left=start is None)
    ids, mask = ids.to(input_device(model)), mask.to(input_device(model))
    options = how.options
    defaults = writer.generation_config
    config = GenerationConfig(
        max_new_tokens=options["max_new_tokens"],
        # Where tokens are drawn, `pick` withholds the ends: the two processors of transformers
        # that would do so copy the scores of the vocabulary twice each.
        min_new_tokens=None if pick else options["min_new_tokens"] or None,
        do_sample=False,
        num_beams=options["beams"],
        num_return_sequences=options["beams"],
        pad_token_id=pad,
        bos_token_id=defaults.bos_token_id,
        eos_token_id=defaults.eos_token_id,
        decoder_start_token_id=start,
        forced_bos_token_id=defaults.forced_bos_token_id,
    )
    kwargs = dict(options["generate_kwargs"])
    if pick is not None:
        ends = kwargs.get("eos_token_id", defaults.eos_token_id)
        pick.withhold([] if ends is None else ends, options["min_new_tokens"])
    with alone(model), evaluating(model), torch.inference_mode(), how.in_bf16():
        if around(model) != how.before:
            raise InputError(
                "steers were attached to this model, or detached from it, while it was writing: "
                "its texts would no longer be what their records say"
            )
        everywhere = _everywhere(model, batch, options["where"])
        if not everywhere:
            _check_told_apart(kwargs)
        # A prompt that is read without its last token can no longer be told from the response.
        if (
            everywhere
            and options["share_prompts"]
            and options["beams"] == 1
            and kwargs.get("use_cache", True)
        ):
            cache = _read_prompts(model, ids, mask, batch)
            kwargs |= {} if cache is None else {cache_name(model): cache}
        with (
            attach(model, by_row(batch), where=options["where"], expand=options["beams"]),
            _unsteered(model, pick, how),
            in_one_product(model),
        ):
            output = writer.generate(
                input_ids=ids,
                attention_mask=mask,
                generation_config=config,
                logits_processor=LogitsProcessorList([] if pick is None else [pick]),
                **kwargs,
            )
    written: Tensor = output[:, ids.shape[1] :] if start is None else output[:, 1:]
    return written


@contextlib.contextmanager
def _unsteered(model: PreTrainedModel, pick: Pick | None, how: Decoding) -> Iterator[None]:
    """Within the block, `pick` can ask for the scores that the model itself would give."""
    head = how.base
    if pick is None or head is None:
        yield
        return
    with base_rows(model) as rows:

        def last() -> Tensor:
            return rows()[:, -1].to(head.weight.dtype)

        if how.options["nucleus"] == "base":
            pick.base = lambda: head.logits(last())
        if how.options["losses"]:
            pick.scored = lambda chosen: token_nll(head, last(), chosen)
        yield


def _everywhere(model: PreTrainedModel, batch: Sequence[Row], where: str) -> bool:
    """Whether the steers of the batch, and those already attached, all act on every position."""
    if any(part != "all" for watch in watches(model) for part in watch.where.values()):
        return False
    if where != "trained":
        return where == "all"
    return all(steer.where == "all" for row in batch for steer, s in row.strengths.items() if s)


def _check_told_apart(kwargs: Mapping[str, Any]) -> None:
    """Refuse options under which a forward call does not show what is prompt and what response."""
    if kwargs.get("use_cache", True) is False or kwargs.get("prefill_chunk_size"):
        raise UnsupportedError(
            "a steer that acts on the prompt or on the response alone needs the prompt to be read "
            "in one call and kept in the cache: leave use_cache= and prefill_chunk_size= out, or "
            'steer all positions with where="all"'
        )


def by_row(batch: Sequence[Row]) -> dict[Steer, float | Tensor]:
    """The strengths of the batch: a plain number where all rows agree, else one value per row."""
    steers = dict.fromkeys(steer for row in batch for steer in row.strengths)
    mixed: dict[Steer, float | Tensor] = {}
    for steer in steers:
        values = [float(row.strengths.get(steer, 0.0)) for row in batch]
        mixed[steer] = values[0] if len(set(values)) == 1 else torch.tensor(values)
    return mixed


def _read_prompts(
    model: PreTrainedModel, ids: Tensor, mask: Tensor, batch: Sequence[Row]
) -> Any | None:
    """The cache of all but the last token of each prompt; every different prompt is read once.

    A steer at the output site does not change the cache, so rows that differ only by its strength
    share one prompt. A steer at the input site changes what is read, so its strength counts too.

    Returns:
        The cache, with one row per row of the batch; None where nothing would be saved, or where
        the model has a cache of its own kind.
    """
    from transformers import DynamicCache

    keys = [
        (row.prompt, frozenset((s, v) for s, v in row.strengths.items() if s.site == "input" and v))
        for row in batch
    ]
    different = dict.fromkeys(keys)
    inside: Any = unwrap(model)
    takes_positions = "position_ids" in inspect.signature(inside.forward).parameters
    if (
        len(different) == len(batch)
        or ids.shape[1] < 2
        or not takes_positions
        or decoder_start(model) is not None
        or is_stateful(model)
        or learned_prompt(model) is not None
    ):
        return None
    first = [keys.index(key) for key in different]
    number = {key: i for i, key in enumerate(different)}
    read = mask[first, :-1]
    cache = DynamicCache(config=inside.config)
    reading = {
        steer: strength
        for steer, strength in by_row([batch[i] for i in first]).items()
        if steer.site == "input"
    }
    with attach(model, reading):
        read_hidden(
            model,
            input_ids=ids[first, :-1],
            attention_mask=read,
            position_ids=(read.cumsum(-1) - 1).clamp_min(0),
            use_cache=True,
            **{cache_name(model): cache},
        )
    cache.batch_select_indices(torch.tensor([number[key] for key in keys], device=ids.device))
    return cache
