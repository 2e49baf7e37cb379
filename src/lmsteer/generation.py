"""`generate`: steered text for prompts x strengths x samples, in batches."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .attachment import attach
from .errors import InputError, MismatchError
from .hidden import Progress
from .steer import Steer
from .strengths import resolve_strength

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Strengths = Mapping[Steer, float | str]


@dataclass(frozen=True)
class Generation:
    """One sampled continuation.

    Args:
        prompt: As it was given.
        text: The continuation alone.
        strengths: Strength of each steer by its name.
        sample: Number of the sample among those of its prompt and strengths, from 0.
        seed: The `seed` of the call.
    """

    prompt: str
    text: str
    strengths: Mapping[str, float]
    sample: int
    seed: int


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
    seed: int = 0,
    batch_size: int = 64,
    progress: Progress | None = None,
    **generate_options: Any,
) -> list[Generation]:
    """Continue prompts at given strengths.

    What is promised about randomness: the random numbers of a record depend on `seed`, its
    prompt, its strengths and its sample number alone; not on the batch it is computed in, nor on
    what else was asked for. The text is then equal too, except where rounding that differs
    between batch shapes moves a random number across the border between two tokens (in float32
    about once in a million tokens). torch's global random state is neither read nor changed.

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
        seed: Another seed gives other samples.
        batch_size: Rows computed at once.
        progress: Called as ``progress("generate", done, total)``.
        **generate_options: Passed on to the model's own ``generate``.

    Returns:
        Records in the order prompt, strengths, sample.

    Raises:
        InputError: An option out of range, no prompt, or an empty prompt that cannot be begun.
        MismatchError: `per_prompt` with another number of mappings than prompts.
    """
    prompts = [prompts] if isinstance(prompts, str) else list(prompts)
    _check(prompts, samples, max_new_tokens, temperature, top_p, batch_size)
    rows = _rows(prompts, strengths, samples, per_prompt)
    encoded = _encode(tokenizer, prompts)
    # Longest first: rows of a batch need few pads, and memory is at its peak at once.
    order = sorted(range(len(rows)), key=lambda i: -len(encoded[rows[i].prompt]))
    texts = [""] * len(rows)
    for start in range(0, len(rows), batch_size):
        part = order[start : start + batch_size]
        batch = [rows[i] for i in part]
        pick = _Pick(
            _uniforms(prompts, batch, seed, max_new_tokens).to(model.device), temperature, top_p
        )
        ids = _run(
            model,
            tokenizer,
            [encoded[row.prompt] for row in batch],
            batch,
            pick,
            max_new_tokens,
            min_new_tokens,
            generate_options,
        )
        for i, text in zip(
            part, tokenizer.batch_decode(ids, skip_special_tokens=True), strict=True
        ):
            texts[i] = text
        if progress:
            progress("generate", min(start + batch_size, len(rows)), len(rows))
    return [
        Generation(
            prompts[row.prompt],
            text,
            {steer.name: value for steer, value in row.strengths.items()},
            row.sample,
            seed,
        )
        for row, text in zip(rows, texts, strict=True)
    ]


@dataclass(frozen=True, eq=False)
class _Row:
    prompt: int
    strengths: Mapping[Steer, float]
    sample: int


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


def _rows(
    prompts: Sequence[str],
    strengths: Strengths | Sequence[Strengths],
    samples: int,
    per_prompt: bool,
) -> list[_Row]:
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
        _Row(prompt, mapping, sample)
        for prompt in range(len(prompts))
        for mapping in ([several[prompt]] if per_prompt else several)
        for sample in range(samples)
    ]


def _encode(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]) -> list[list[int]]:
    encoded = [list(ids) for ids in tokenizer(list(prompts))["input_ids"]]
    for prompt, ids in zip(prompts, encoded, strict=True):
        # Some tokenizers end every text; a prompt is not at its end.
        if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id and prompt:
            ids.pop()
        if not ids:
            start = tokenizer.bos_token_id
            start = tokenizer.eos_token_id if start is None else start
            if start is None:
                raise InputError("an empty prompt needs a tokenizer with a beginning-of-text token")
            ids.append(start)
    return encoded


def _uniforms(prompts: Sequence[str], batch: Sequence[_Row], seed: int, length: int) -> Tensor:
    """``(rows, length)`` uniform numbers in [0, 1), each row a function of its own record."""
    drawn = torch.empty(len(batch), length)
    for i, row in enumerate(batch):
        mix = sorted((steer.name, float(value)) for steer, value in row.strengths.items() if value)
        key = repr((seed, prompts[row.prompt], mix, row.sample))
        number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big")
        drawn[i] = torch.rand(length, generator=torch.Generator().manual_seed(number))
    return drawn


class _Pick:
    """A logits processor that samples: it leaves one token possible, for greedy search to take.

    Sampling by inverting the cumulative distribution needs one number a token, drawn beforehand,
    where drawing from the model's own batch would tie every row to its neighbours.
    """

    def __init__(self, uniforms: Tensor, temperature: float, top_p: float) -> None:
        self.uniforms, self.temperature, self.top_p = uniforms, temperature, top_p
        self.step = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self.temperature == 0:
            return scores
        chance, ids = torch.sort((scores.float() / self.temperature).softmax(-1), descending=True)
        below = chance.cumsum(-1)
        # The nucleus holds every token before which less than top_p has been reached.
        inside = below - chance < self.top_p
        mass = (chance * inside).sum(-1, keepdim=True)
        goal = self.uniforms[:, self.step, None] * mass
        self.step += 1
        place = torch.searchsorted(below, goal, right=True)
        place = place.minimum(inside.sum(-1, keepdim=True) - 1)
        chosen = ids.gather(-1, place)
        return torch.full_like(scores, float("-inf")).scatter_(-1, chosen, 0.0)


def _run(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Sequence[Sequence[int]],
    batch: Sequence[_Row],
    pick: _Pick,
    max_new_tokens: int,
    min_new_tokens: int,
    options: Mapping[str, Any],
) -> Tensor:
    """Ids of the continuations, without the prompts."""
    from transformers import GenerationConfig, LogitsProcessorList

    pad = tokenizer.pad_token_id
    pad = next(i for i in (pad, tokenizer.eos_token_id, 0) if i is not None)
    longest = max(map(len, encoded))
    input_ids = torch.full((len(encoded), longest), pad)
    attention_mask = torch.zeros_like(input_ids)
    for row, ids in enumerate(encoded):
        input_ids[row, longest - len(ids) :] = torch.tensor(ids)
        attention_mask[row, longest - len(ids) :] = 1
    defaults = model.generation_config
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        min_new_tokens=min_new_tokens or None,
        do_sample=False,
        pad_token_id=pad,
        bos_token_id=defaults.bos_token_id,
        eos_token_id=defaults.eos_token_id,
        decoder_start_token_id=defaults.decoder_start_token_id,
    )
    with attach(model, _by_row(batch)), torch.inference_mode():
        output = model.generate(  # type: ignore[operator]
            input_ids=input_ids.to(model.device),
            attention_mask=attention_mask.to(model.device),
            generation_config=config,
            logits_processor=LogitsProcessorList([pick]),
            **options,
        )
    return output if model.config.is_encoder_decoder else output[:, longest:]


def _by_row(batch: Sequence[_Row]) -> dict[Steer, float | Tensor]:
    """Strengths of the batch: plain numbers where all rows agree, else one value a row."""
    steers = dict.fromkeys(steer for row in batch for steer in row.strengths)
    mixed: dict[Steer, float | Tensor] = {}
    for steer in steers:
        values = [float(row.strengths.get(steer, 0.0)) for row in batch]
        mixed[steer] = values[0] if len(set(values)) == 1 else torch.tensor(values)
    return mixed
