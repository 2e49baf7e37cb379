"""`generate`: steered text for prompts x strengths x samples, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from typing_extensions import Unpack

from ..errors import InputError, MismatchError
from ..model import (
    alone,
    around,
    check_where,
    decoder_start,
    head_device,
    head_dtype,
    input_device,
    is_stateful,
    lowered,
    read_head,
)
from ..states import Progress
from ..steer import Steer, labels, resolve_strength
from ..text import as_chat, encoder_ids, prompt_ids
from .decoding import Decoding, decode
from .options import OPTIONS, GenerateOptions
from .records import Generation
from .sampling import Pick, Row, uniforms

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Strengths = Mapping[Steer, float | str]


@OPTIONS.documented
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: str | Sequence[str],
    *,
    strengths: Strengths | Sequence[Strengths] = {},  # noqa: B006 - never changed
    **options: Unpack[GenerateOptions],
) -> list[Generation]:
    """Continue prompts at given strengths.

    The promise on randomness: the random numbers of a record depend on `seed`, its prompt, its
    strengths with their steers' names, and its sample number; not on the batch that it is computed
    in, nor on what else was asked for. The text is then equal too, except where
    rounding that differs between batch shapes moves a random number across the border between
    two tokens (in float32 about once in a million tokens). torch's global random state is neither
    read nor changed.

    Within an open `attach`, the attached steers and `strengths` both act, and both are recorded; a
    steer that is in both has the sum. The random numbers depend on `strengths` alone, so that
    methods that are compared by attaching them get the same ones.

    Args:
        model: A causal language model.
        tokenizer: The model's own; left as it is.
        prompts: One prompt or several; an empty prompt begins a text, if the tokenizer has a token
            for the beginning.
        strengths: A mapping from steers to strengths, or a list of mappings that is crossed with
            the prompts. A strength is a number, or a word such as ``"+auto"`` for calibrated
            steers.
        **options: See `GenerateOptions`.

    Returns:
        The records, in the order prompt, strengths, sample. `Generation.mix` is the number of the
        mapping of `strengths` that a record belongs to.

    Raises:
        InputError: An option is unknown or out of range; there is no prompt, or an empty one that
            cannot begin a text; steers are attached with a tensor for the rows of one batch, or
            by another thread while this runs.
        MismatchError: With `per_prompt` there are not as many mappings as prompts.
    """
    prompts = [prompts] if isinstance(prompts, str) else list(prompts)
    options = OPTIONS.fill(options, "generate")
    _check(prompts, options)
    beams = options["beams"]
    rows = _rows(prompts, strengths, 1 if beams > 1 else options["samples"], options["per_prompt"])
    with alone(model):
        before = around(model)
    if options["losses"] and any(
        steer.site == "input" for mix in (before, *(row.strengths for row in rows)) for steer in mix
    ):
        raise InputError(
            "losses=True needs the model's own states, which a steer at the input site changes: "
            "score its texts with lmsteer.metrics.perplexity"
        )
    if options["chat"]:
        prompts = as_chat(tokenizer, prompts)
    encodes = decoder_start(model) is not None
    encoded = encoder_ids(tokenizer, prompts) if encodes else _encode(tokenizer, prompts)
    head = None
    if options["nucleus"] == "base" or options["losses"]:
        head = read_head(model, head_dtype(model))
        head = head.fast() if options["fast"] else head
    in_bf16 = lowered(model, input_device(model), options["fast"], tables=True)
    how = Decoding(options, head, before, in_bf16)
    # Longest first: rows of a batch need few pads, and memory is at its peak at once. Rows of one
    # prompt stay together, so that it is read once.
    order = sorted(range(len(rows)), key=lambda i: -len(encoded[rows[i].prompt]))
    texts: list[list[str]] = [[]] * len(rows)
    losses: list[tuple[float, ...] | None] = [None] * len(rows)
    steps = _Steps(options["progress"], len(rows), options["max_new_tokens"])
    lengths = [len(encoded[row.prompt]) for row in rows]
    for part in _batches(order, lengths, options["batch_size"], even=is_stateful(model)):
        batch = [rows[i] for i in part]
        pick = None
        if beams == 1:
            drawn = uniforms(prompts, batch, options["seed"], options["max_new_tokens"])
            pick = Pick(drawn.to(head_device(model)), options["temperature"], options["top_p"])
            pick.told = partial(steps.within, len(part))
        ids = decode(model, tokenizer, [encoded[row.prompt] for row in batch], batch, pick, how)
        found = tokenizer.batch_decode(ids, skip_special_tokens=True)
        for i, place in enumerate(part):
            texts[place] = found[i * beams : (i + 1) * beams]
        if pick is not None and pick.scored is not None:
            for place, noted in zip(part, pick.losses(), strict=True):
                losses[place] = noted
        steps.finish(len(part))
    recorded = [row.beside(before) for row in rows]
    names = labels(steer for row in recorded for steer in row.strengths)
    return [
        Generation(
            prompts[row.prompt],
            text,
            {names[steer]: value for steer, value in row.strengths.items()},
            row.sample + number,
            options["seed"],
            row.mix,
            noted,
        )
        for row, written, noted in zip(recorded, texts, losses, strict=True)
        for number, text in enumerate(written[: options["samples"]] if beams > 1 else written)
    ]


class _Steps:
    """Reports the number of tokens that are written, a text that ends early counted as whole."""

    def __init__(self, progress: Progress | None, rows: int, length: int) -> None:
        self._told = progress
        self._done, self._total, self._length = 0, rows * length, length

    def within(self, rows: int, step: int) -> None:
        """`rows` texts of the batch that is being written have `step` tokens each."""
        if self._told and step < self._length:
            self._told("generate", self._done + rows * step, self._total)

    def finish(self, rows: int) -> None:
        """A batch of `rows` texts is written."""
        self._done += rows * self._length
        if self._told:
            self._told("generate", self._done, self._total)


def _batches(
    order: Sequence[int], lengths: Sequence[int], most: int, *, even: bool
) -> Iterator[list[int]]:
    """Batches of at most `most` rows; `even`: of one length, for models whose state reads pads."""
    part: list[int] = []
    for i in order:
        if len(part) == most or (even and part and lengths[part[0]] != lengths[i]):
            yield part
            part = []
        part.append(i)
    yield part


def _check(prompts: Sequence[str], options: GenerateOptions) -> None:
    """Raise InputError for options that do not go together."""
    if not prompts:
        raise InputError("no prompts given; expected at least one")
    beams, samples = options["beams"], options["samples"]
    if options["nucleus"] == "base" and beams > 1:
        raise InputError('nucleus="base" is about sampling; beam search has no nucleus')
    if options["losses"] and beams > 1:
        raise InputError("losses=True is about sampling: beam search keeps no scores of its texts")
    _check_where(options["where"])
    taken = {"num_beams": "beams=", "num_return_sequences": "samples="}
    for theirs in options["generate_kwargs"]:
        if theirs in taken:
            raise InputError(f"give {taken[theirs]} instead of {theirs} in generate_kwargs=")
    if beams > 1 and samples > beams:
        raise InputError(f"{beams} beams give at most {beams} samples, {samples} were asked for")


def _check_where(where: object) -> None:
    if isinstance(where, torch.Tensor):
        raise InputError(
            'where= of generate is "trained", "all", "prompt" or "response"; a mask is for one '
            "forward call under lmsteer.attach"
        )
    check_where(where)


def _rows(
    prompts: Sequence[str],
    strengths: Strengths | Sequence[Strengths],
    samples: int,
    per_prompt: bool,
) -> list[Row]:
    given = [strengths] if isinstance(strengths, Mapping) else list(strengths)
    several = [{steer: resolve_strength(steer, s) for steer, s in one.items()} for one in given]
    if not several:
        raise InputError("strengths is an empty list; give {} for the base model")
    if per_prompt and len(several) != len(prompts):
        raise MismatchError(
            f"per_prompt=True takes one mapping of strengths per prompt: got {len(several)} "
            f"mappings for {len(prompts)} prompts"
        )
    return [
        Row(prompt, several[mix], sample, mix)
        for prompt in range(len(prompts))
        for mix in ([prompt] if per_prompt else range(len(several)))
        for sample in range(samples)
    ]


def _encode(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]) -> list[list[int]]:
    encoded = prompt_ids(tokenizer, prompts)
    for ids in encoded:
        if not ids:
            start = tokenizer.bos_token_id
            start = tokenizer.eos_token_id if start is None else start
            if start is None:
                raise InputError("an empty prompt needs a tokenizer with a beginning-of-text token")
            ids.append(start)
    return encoded
