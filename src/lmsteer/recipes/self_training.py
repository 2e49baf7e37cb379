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
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..generation import generate
from ..metrics import Scorer, scorer_of
from ..states import Progress
from ..steer import Steer
from ..text import Example, summary
from .training import train

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TOP_P = 0.95
STRENGTHS = (-3.0, 0.0, 3.0)
"""Of the first steer, so that both sides are among what is written."""
WORDS = (2, 6)
OPTIONS = {"rank", "fast", "domain", "weight", "balance", "held_out", "salt", "max_length"}
OPTIONS |= {"ridge", "memory"}


def self_train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    *,
    judge: Scorer | None = None,
    name: str | None = None,
    texts: int = 12_000,
    max_new_tokens: int = 20,
    seed: int = 0,
    batch_size: int = 128,
    calibrate: bool = True,
    progress: Progress | None = None,
    **options: Any,
) -> Steer:
    """Learn a steer, let it and the model write, and learn from that too.

    A first steer is learned from the examples. At strengths -3, 0 and 3 the model continues the
    first words of the examples, and a judge labels what it wrote, between -1 and 1. The steer that
    is returned learned from these texts and the examples together. On `bundled` it does more for
    the same perplexity than `train` at small strengths, and its texts vary less at large ones
    (experiments/paper/README.md has the figures).

    Args:
        model: A causal language model.
        tokenizer: The tokenizer of the model.
        examples: Labelled texts, with labels of both signs.
        judge: A function from texts to scores in [-1, 1], which are above 0 towards the label 1.
            By default it is a classifier by n-grams that learns from the examples
            (`metrics.scorer_of`). Do not judge the results by the same one.
        name: What to call the steer; "steer" by default.
        texts: The number of texts that the model writes.
        max_new_tokens: The length of each text, in tokens.
        seed: The seed of the beginnings and of the sampling.
        batch_size: The number of rows that are generated at once.
        calibrate: Measure afterwards what each strength costs; see `lmsteer.calibrate`.
        progress: Called as ``progress(stage, done, total)``.
        **options: Options of `train`, for both steers: `rank`, `balance`, `weight`, `held_out`, ...

    Returns:
        The steer. Its record is the one of `train`, and says under ``"self_training"`` how many
        texts of its own the model wrote, their labels, and the counts and digest of the examples.

    Raises:
        InputError: Examples of one sign alone, an option that does not apply here, or a judge that
            gives every text the same score.
    """
    strange = sorted(set(options) - OPTIONS)
    if strange:
        raise InputError(
            f"self-training does not take {', '.join(strange)}; it takes "
            f"{', '.join(sorted(OPTIONS))}, and acts at the output site"
        )
    if texts < len(STRENGTHS):
        raise InputError(f"texts must be at least {len(STRENGTHS)}, was: {texts}")
    told = "the caller's" if judge else "n-grams of the examples"
    judge = judge or scorer_of(examples)
    first = train(model, tokenizer, examples, calibrate=False, progress=progress, **options)
    draw = random.Random(seed)
    drawn = draw.choices(list(examples), k=-(-texts // len(STRENGTHS)))
    beginnings = [" ".join(e.text.split()[: draw.randint(*WORDS)]) for e in drawn]
    different = list(dict.fromkeys(beginnings))
    records = generate(
        model,
        tokenizer,
        different,
        strengths=[{first: strength} for strength in STRENGTHS],
        samples=-(-texts // (len(STRENGTHS) * len(different))),
        max_new_tokens=max_new_tokens,
        top_p=TOP_P,
        seed=seed,
        batch_size=batch_size,
        progress=progress,
    )
    records = [r for r in draw.sample(records, texts) if r.text.strip()]
    labels = [float(min(1.0, max(-1.0, s))) for s in judge([r.text for r in records])]
    if len(set(labels)) < 2:
        raise InputError(
            f"the judge gave all {len(records)} texts that the model wrote the same score; nothing "
            "can be learned from that"
        )
    own = [Example(r.text, y, r.prompt) for r, y in zip(records, labels, strict=True)]
    steer = train(
        model,
        tokenizer,
        [*examples, *own],
        name=name,
        calibrate=calibrate,
        progress=progress,
        **options,
    )
    record = {
        "texts": len(own),
        "judge": told,
        "mean_label": sum(labels) / len(labels),
        "seed": seed,
        "examples": summary(examples),
    }
    return replace(steer, record={**steer.record, "self_training": record})
