"""`generate`: steered text for prompts x strengths x samples, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch

from ..errors import InputError, MismatchError
from ..model import (
    alone,
    around,
    check_where,
    decoder_start,
    head_device,
    head_dtype,
    is_stateful,
    read_head,
)
from ..states import Progress
from ..steer import Steer, labels, resolve_strength
from ..text import as_chat, encoder_ids, prompt_ids
from .decoding import Decoding, decode
from .records import Generation
from .sampling import Pick, Row, uniforms

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Strengths = Mapping[Steer, float | str]


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: str | Sequence[str],
    *,
    strengths: Strengths | Sequence[Strengths] = {},  # noqa: B006 - never changed
    samples: int = 1,
    per_prompt: bool = False,
    max_new_tokens: int = 40,
    min_new_tokens: int = 0,
    temperature: float = 1.0,
    top_p: float = 1.0,
    nucleus: Literal["steered", "base"] | str = "steered",
    seed: int = 0,
    beams: int = 1,
    batch_size: int = 64,
    share_prompts: bool = True,
    chat: bool = False,
    where: Literal["trained", "all", "prompt", "response"] | str = "trained",
    progress: Progress | None = None,
    **generate_options: Any,
) -> list[Generation]:
    """Continue prompts at given strengths.

    What is promised about randomness: the random numbers of a record depend on `seed`, its
    prompt, its strengths with their steers' names and its sample number alone; not on the batch
    it is computed in, nor on what else was asked for. The text is then equal too, except where
    rounding that differs between batch shapes moves a random number across the border between
    two tokens (in float32 about once in a million tokens). torch's global random state is neither
    read nor changed.

    Within an open `attach` both act, what is attached and `strengths`; so both are recorded, a
    steer that is in both with the sum. The random numbers are those of `strengths` alone: methods
    that are compared by attaching them meet the same luck.

    Args:
        model: A causal language model.
        tokenizer: The model's own; left as it is.
        prompts: One or many; an empty prompt begins a text where the tokenizer has a token
            for it.
        strengths: A mapping from steers to strengths, or a list of them that is crossed with the
            prompts. Numbers, or words such as ``"+auto"`` for calibrated steers.
        samples: How many continuations for each prompt and strengths.
        per_prompt: Take `strengths` as one mapping a prompt instead of crossing.
        max_new_tokens: Longest continuation, in tokens.
        min_new_tokens: An end of text is not allowed before so many tokens.
        temperature: Divides the scores; 0 takes the likeliest token always.
        top_p: Nucleus sampling: only the likeliest tokens whose probabilities reach `top_p`.
        nucleus: Whose probabilities the nucleus is taken of: those the tokens are drawn by, or the
            ``"base"`` model's: the steers then choose among what the model itself finds likely,
            as DExperts does. Text keeps together at strengths where it else falls apart, for one
            more product with the head a token. The steered probabilities are the same.
        seed: Another seed gives other samples.
        beams: More than 1: beam search of so many beams instead of sampling; the `samples` best
            are returned, at most `beams`.
        batch_size: Rows computed at once.
        share_prompts: Read each prompt once for all its samples and strengths (with steers at the
            input site, once for each strength).
        chat: The model is a chat model: each prompt is a user's turn. Records hold the prompt as
            the model reads it, in its chat template.
        where: Positions that are steered, as in `attach`: by default each steer acts on what it was
            trained for.
        progress: Called as ``progress("generate", done, total)``.
        **generate_options: Passed on to the model's own ``generate``.

    Returns:
        Records in the order prompt, strengths, sample. `Generation.mix` says to which mapping of
        `strengths` each belongs.

    Raises:
        InputError: An option out of range, no prompt, or an empty prompt that cannot be begun;
            steers that are attached with a tensor for the rows of one batch, or by another thread
            while this runs.
        MismatchError: `per_prompt` with another number of mappings than prompts.
    """
    prompts = [prompts] if isinstance(prompts, str) else list(prompts)
    _check(prompts, samples, max_new_tokens, temperature, top_p, batch_size)
    if nucleus not in ("steered", "base"):
        raise InputError(f'nucleus must be "steered" or "base", was: {nucleus!r}')
    if nucleus == "base" and beams > 1:
        raise InputError('nucleus="base" is about sampling; beam search has no nucleus')
    _check_where(where)
    if "num_beams" in generate_options or "num_return_sequences" in generate_options:
        raise InputError("give beams= and samples= instead of num_beams and num_return_sequences")
    if beams > 1 and samples > beams:
        raise InputError(f"{beams} beams give at most {beams} samples, {samples} were asked for")
    rows = _rows(prompts, strengths, 1 if beams > 1 else samples, per_prompt)
    with alone(model):
        before = around(model)
    told = [row.beside(before) for row in rows]
    if chat:
        prompts = as_chat(tokenizer, prompts)
    encodes = decoder_start(model) is not None
    encoded = encoder_ids(tokenizer, prompts) if encodes else _encode(tokenizer, prompts)
    head = read_head(model, head_dtype(model)) if nucleus == "base" else None
    how = Decoding(
        max_new_tokens, min_new_tokens, beams, where, share_prompts, head, before, generate_options
    )
    # Longest first: rows of a batch need few pads, and memory is at its peak at once. Rows of one
    # prompt stay together, so that it is read once.
    order = sorted(range(len(rows)), key=lambda i: -len(encoded[rows[i].prompt]))
    texts: list[list[str]] = [[]] * len(rows)
    done = 0
    lengths = [len(encoded[row.prompt]) for row in rows]
    for part in _batches(order, lengths, batch_size, even=is_stateful(model)):
        batch = [rows[i] for i in part]
        pick = None
        if beams == 1:
            drawn = uniforms(prompts, batch, seed, max_new_tokens).to(head_device(model))
            pick = Pick(drawn, temperature, top_p)
        ids = decode(model, tokenizer, [encoded[row.prompt] for row in batch], batch, pick, how)
        found = tokenizer.batch_decode(ids, skip_special_tokens=True)
        for i, place in enumerate(part):
            texts[place] = found[i * beams : (i + 1) * beams]
        if progress:
            done += len(part)
            progress("generate", done, len(rows))
    names = labels(steer for row in told for steer in row.strengths)
    return [
        Generation(
            prompts[row.prompt],
            text,
            {names[steer]: value for steer, value in row.strengths.items()},
            row.sample + number,
            seed,
            row.mix,
        )
        for row, written in zip(told, texts, strict=True)
        for number, text in enumerate(written[:samples] if beams > 1 else written)
    ]


def _batches(
    order: Sequence[int], lengths: Sequence[int], most: int, *, even: bool
) -> Iterator[list[int]]:
    """At most so many rows at once; `even`: of one length, for models whose state reads pads."""
    part: list[int] = []
    for i in order:
        if len(part) == most or (even and part and lengths[part[0]] != lengths[i]):
            yield part
            part = []
        part.append(i)
    yield part


def _check(
    prompts: Sequence[str],
    samples: int,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    batch_size: int,
) -> None:
    if not prompts:
        raise InputError("no prompts given; expected at least one")
    for name, value in (
        ("samples", samples),
        ("max_new_tokens", max_new_tokens),
        ("batch_size", batch_size),
    ):
        if value < 1:
            raise InputError(f"{name} must be at least 1, was: {value}")
    if temperature < 0:
        raise InputError(f"temperature must be 0 or more, was: {temperature}")
    if not 0 < top_p <= 1:
        raise InputError(f"top_p must be above 0 and at most 1, was: {top_p}")


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
            f"per_prompt=True takes one mapping of strengths a prompt: got {len(several)} "
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
