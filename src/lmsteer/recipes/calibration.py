"""`calibrate`: what each strength costs, so that nobody has to guess one.

For each strength it measures the divergence KL(P_s || P_0) in nats per token, and the perplexity
under the base model and the distinct-2 of sampled text. From these follows the safe range, which
has an end on each side of 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import Unpack

from ..errors import InputError
from ..generation import SamplingOptions, by_mix, generate
from ..metrics import (
    distinct,
    encode_records,
    exponential_of_mean,
    text_divergence,
    text_losses,
)
from ..states import Options
from ..steer import Calibration, Cost, Steer, safe_range
from ..text import read_prompts

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

STRENGTHS = (-5.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
PROMPTS, SAMPLES = 24, 4
OPTIONS = Options(SamplingOptions, max_new_tokens=20, top_p=0.9, batch_size=256)
_SCORES_AT_ONCE = 1 << 24
"""Of all texts that are written at once: fewer texts where the vocabulary is large."""


@OPTIONS.documented
def calibrate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    steer: Steer,
    *,
    prompts: Sequence[str] | None = None,
    strengths: Sequence[float] = STRENGTHS,
    samples: int = SAMPLES,
    **options: Unpack[SamplingOptions],
) -> Steer:
    """Measure what each strength costs, and keep the table with the steer.

    Args:
        model: The model that the steer was learned on.
        tokenizer: The tokenizer of the model.
        steer: The steer, which is left as it is; its domain part is not used.
        prompts: The beginnings of the sampled texts; by default 24 neutral prompts of the package.
        strengths: The signed strengths to measure; 0 is added where it is missing.
        samples: The number of texts per prompt and strength.
        **options: See `SamplingOptions`. Every text has exactly `max_new_tokens` tokens.

    Returns:
        The same steer with a `Calibration`: the divergence (exact, over the positions of the
        unsteered samples), and the perplexity and distinct-2 of sampled text at each strength.
        Its safe range says up to where, on each side of 0, perplexity stays within 1.5 times and
        distinct-2 above 0.9 times that of unsteered text, interpolated between neighbouring
        strengths. Figures of samples are noisy: the table has their 95% intervals.

    Raises:
        InputError: There are no prompts, or no strength besides 0.
        UnsupportedError: The model is an encoder-decoder model.
    """
    options = OPTIONS.fill(options, "calibrate")
    wanted = sorted({0.0, *map(float, strengths)})
    if len(wanted) < 2:
        raise InputError("strengths must hold at least one number besides 0")
    chosen = read_prompts("bundled:neutral")[:PROMPTS] if prompts is None else list(prompts)
    # The map without its old table, which would warn of strengths that are being measured anew.
    plain = replace(steer, calibration=None)
    at_once = max(16, _SCORES_AT_ONCE // max(1, len(tokenizer)))
    options["batch_size"] = min(options["batch_size"], at_once)
    records = generate(
        model,
        tokenizer,
        chosen,
        strengths=[{plain: strength} for strength in wanted],
        samples=samples,
        min_new_tokens=options["max_new_tokens"],  # texts that end at once would say little
        # In bf16, where the processor has it: what that moves is far within the intervals.
        fast=True,
        losses=steer.site == "output",
        **options,
    )
    parts = by_mix(records, len(wanted))
    encoded = encode_records(model, tokenizer, parts[wanted.index(0.0)])
    kl = text_divergence(model, encoded, plain, wanted)
    if steer.site == "input":
        records = [r for part in parts for r in part]
        read = text_losses(
            model,
            tokenizer,
            [r.text for r in records],
            [r.prompt for r in records],
            attached=False,
            fast=True,
            progress=options["progress"],
        )
    else:
        read = [np.array(r.losses) for part in parts for r in part]
    rows = []
    for number, (strength, part) in enumerate(zip(wanted, parts, strict=True)):
        own = read[number * len(part) : (number + 1) * len(part)]
        fluency = exponential_of_mean(own, [r.prompt for r in part])
        variety = distinct(part, 2)
        rows.append(
            Cost(
                strength=strength,
                kl=kl[strength],
                perplexity=fluency.value,
                perplexity_low=fluency.low,
                perplexity_high=fluency.high,
                distinct_2=variety.value,
                distinct_2_low=variety.low,
                distinct_2_high=variety.high,
            )
        )
    table = Calibration(
        rows=tuple(rows),
        safe=safe_range(rows),
        positions=int(encoded.target_counts.sum()),
        prompts=len(chosen),
        samples=samples,
        tokens=options["max_new_tokens"],
        top_p=options["top_p"],
        seed=options["seed"],
    )
    return replace(steer, calibration=table)
