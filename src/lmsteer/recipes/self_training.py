"""`self_train`: a steer that learns from what the model itself writes, beside the given texts.

Given texts differ from a model's own writing in more than their style. A steer learned from them
follows part of that difference, and pays for it in perplexity as its strength grows. Among texts
that the model wrote, a style is nearly all that separates the ones a classifier places high from
those it places low.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from typing_extensions import Unpack

from ..errors import InputError
from ..generation import SamplingOptions, generate
from ..metrics import Scorer, scorer_of
from ..states import Options
from ..steer import Steer
from ..text import Example, summary
from ..training import TextOptions
from .training import train

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

STRENGTHS = (-3.0, 0.0, 3.0)
"""The strengths of the first steer at which the model writes: texts of both signs, and neutral
ones."""
WORDS = (2, 6)


class SelfTrainOptions(TextOptions, SamplingOptions, total=False):
    """The options of `self_train`: of what is learned, and of what the model writes."""


OPTIONS = Options(SelfTrainOptions, max_new_tokens=20, top_p=0.95, batch_size=128)
_LEARNING, _WRITING = Options(TextOptions), Options(SamplingOptions)


@OPTIONS.documented
def self_train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    *,
    judge: Scorer | None = None,
    name: str | None = None,
    texts: int = 12_000,
    calibrate: bool = True,
    **options: Unpack[SelfTrainOptions],
) -> Steer:
    """Learn a steer, let it and the model write, and learn from that too.

    A first steer is learned from the examples. At strengths -3, 0 and 3 the model goes on from the
    examples' first words, and a judge gives each of these texts a label between -1 and 1. The
    returned steer has learned from these texts and the examples together. On `bundled` it does more
    for the same perplexity than `train` at small strengths, and varies less at large ones
    (experiments/paper/README.md has the figures).

    Args:
        model: A causal language model.
        tokenizer: The model's own.
        examples: Labelled texts, some above 0 and some below.
        judge: A function from texts to scores in [-1, 1], above 0 towards the label 1; by default
            a classifier by n-grams that learns from the examples (`metrics.scorer_of`). Do not
            judge the results by the same one.
        name: The name of the steer; "steer" by default.
        texts: The number of texts that the model writes.
        calibrate: Whether to measure afterwards what each strength costs; see `lmsteer.calibrate`.
        **options: See `SelfTrainOptions`. Those of `train` hold for both steers.

    Returns:
        The steer. Its record is that of `train`, with ``"self_training"``: the number of the
        texts of the model that it learned from, the mean of their labels, and the counts and the
        digest of the examples.

    Raises:
        InputError: All labels have the same sign, an option is unknown or out of range, or the
            judge gives every text the same score.
    """
    options = OPTIONS.fill(options, "self_train")
    learning = _LEARNING.part(options)
    if texts < len(STRENGTHS):
        raise InputError(f"texts must be at least {len(STRENGTHS)}, was: {texts}")
    judged_by = "the caller's" if judge else "n-grams of the examples"
    judge = judge or scorer_of(examples)
    first = train(model, tokenizer, examples, calibrate=False, **learning)
    draw = random.Random(options["seed"])
    drawn = draw.choices(list(examples), k=-(-texts // len(STRENGTHS)))
    beginnings = [" ".join(e.text.split()[: draw.randint(*WORDS)]) for e in drawn]
    different = list(dict.fromkeys(beginnings))
    records = generate(
        model,
        tokenizer,
        different,
        strengths=[{first: strength} for strength in STRENGTHS],
        samples=-(-texts // (len(STRENGTHS) * len(different))),
        fast=options["fast"],
        **_WRITING.part(options),
    )
    records = [r for r in draw.sample(records, texts) if r.text.strip()]
    labels = [float(min(1.0, max(-1.0, s))) for s in judge([r.text for r in records])]
    if len(set(labels)) < 2:
        raise InputError(
            f"the judge gave all {len(records)} texts that the model wrote the same score; nothing "
            "can be learned from that"
        )
    own = [Example(r.text, y, r.prompt) for r, y in zip(records, labels, strict=True)]
    steer = train(model, tokenizer, [*examples, *own], name=name, calibrate=calibrate, **learning)
    record = {
        "texts": len(own),
        "judge": judged_by,
        "mean_label": sum(labels) / len(labels),
        "seed": options["seed"],
        "examples": summary(examples),
    }
    return replace(steer, record={**steer.record, "self_training": record})
