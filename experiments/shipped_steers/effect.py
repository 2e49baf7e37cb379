"""What a steer does to sampled text at each strength, by as many judges as are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scipy.stats import spearmanr

import lmsteer
from lmsteer.generation.records import by_mix
from lmsteer.metrics import Scorer
from lmsteer.metrics.fluency import perplexity
from lmsteer.metrics.style import mean_score, positive_rate
from lmsteer.recipes.calibration import STRENGTHS
from lmsteer.steer import Effect, Rate


def effects(
    model: Any,
    tokenizer: Any,
    steer: lmsteer.Steer,
    judges: Mapping[str, Scorer],
    prompts: Sequence[str],
    texts: int,
    *,
    style: str,
    of: str,
    **options: Any,
) -> list[Effect]:
    """One `Effect` per judge, all of the same texts.

    Args:
        model: The model that writes.
        tokenizer: Its tokenizer.
        steer: The steer.
        judges: Scorers, above 0 where strength above 0 should lead, by what they are in words.
        prompts: The beginnings that are written on from.
        texts: How many texts are written per strength.
        style: What strength above 0 means.
        of: The name of the prompts.
        **options: Of `lmsteer.generate`.
    """
    samples = max(1, texts // len(prompts))
    records = lmsteer.generate(
        model,
        tokenizer,
        prompts,
        strengths=[{steer: s} for s in STRENGTHS],
        samples=samples,
        max_new_tokens=20,
        min_new_tokens=20,
        top_p=0.9,
        fast=True,
        seed=1,  # not the samples that the calibration saw
        **options,
    )
    parts = by_mix(records, len(STRENGTHS))
    costs = [perplexity(model, tokenizer, part, fast=True).value for part in parts]
    found = []
    for told, judge in judges.items():
        rows = []
        for strength, part, cost in zip(STRENGTHS, parts, costs, strict=True):
            scores = judge([r.text for r in part])
            rate = positive_rate(part, scores)
            rows.append(
                Rate(
                    strength=strength,
                    rate=rate.value,
                    rate_low=rate.low,
                    rate_high=rate.high,
                    score=mean_score(part, scores).value,
                    perplexity=cost,
                )
            )
        order = spearmanr([r.strength for r in rows], [r.score for r in rows]).statistic
        found.append(
            Effect(
                style=style,
                judge=told,
                prompts=of,
                texts=len(prompts) * samples,
                spearman=round(float(order), 4),
                rows=tuple(rows),
            )
        )
    return found
