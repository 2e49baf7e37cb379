"""Train, calibrate and measure the steers that come with the package.

python -m experiments.shipped_steers.train --data ../shared/data

For both bundled models: the solver convex, its own choice of rank, strengths calibrated on 384
texts each, and the effect of each strength on text sampled from the package's prompts, judged by a
scorer that never met the steer's text (`../shared/styles.py`).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from scipy.stats import spearmanr

import lmsteer
from experiments.shared.styles import STYLES, Style
from lmsteer.generation.records import by_mix
from lmsteer.metrics.fluency import perplexity
from lmsteer.metrics.style import mean_score, positive_rate
from lmsteer.recipes.calibration import STRENGTHS
from lmsteer.steer import Effect, Rate


def effect_of(model: Any, tokenizer: Any, steer: lmsteer.Steer, style: Style) -> Effect:
    """What each strength does to sampled text."""
    name = f"bundled:{style.prompts}"
    prompts = lmsteer.read_prompts(name)[:50]
    samples = 400 // len(prompts)
    records = lmsteer.generate(
        model,
        tokenizer,
        prompts,
        strengths=[{steer: s} for s in STRENGTHS],
        samples=samples,
        max_new_tokens=20,
        min_new_tokens=20,
        top_p=0.9,
        seed=1,  # not the samples that the calibration saw
    )
    rows = []
    for strength, part in zip(STRENGTHS, by_mix(records, len(STRENGTHS)), strict=True):
        scores = style.judge([r.text for r in part])
        rate = positive_rate(part, scores)
        rows.append(
            Rate(
                strength=strength,
                rate=rate.value,
                rate_low=rate.low,
                rate_high=rate.high,
                score=mean_score(part, scores).value,
                perplexity=perplexity(model, tokenizer, part).value,
            )
        )
    order = spearmanr([r.strength for r in rows], [r.score for r in rows]).statistic
    return Effect(
        style=style.plus,
        judge="a classifier that never met the steer's text",
        prompts=name,
        texts=len(prompts) * samples,
        spearman=round(float(order), 4),
        rows=tuple(rows),
    )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("src/lmsteer/assets/steers"))
    parser.add_argument("--models", nargs="+", default=["bundled", "bundled-small"])
    parser.add_argument("--styles", nargs="+", default=list(STYLES))
    args = parser.parse_args()
    for model_name in args.models:
        model, tokenizer = lmsteer.load_model(model_name)
        for name in args.styles:
            style = STYLES[name](args.data)
            steer = lmsteer.train(
                model,
                tokenizer,
                style.examples,
                name=name,
                balance=style.balance,
                solver="convex",
                calibrate=False,
            )
            steer = lmsteer.calibrate(model, tokenizer, steer, samples=16)
            measured = effect_of(model, tokenizer, steer, style)
            record = {**steer.record, "source": style.source}
            steer = replace(steer, record=record, effect=measured)
            steer.save(args.out / model_name / name, force=True)
            safe = steer.calibration.safe
            print(
                model_name,
                steer,
                json.dumps({"safe": [round(s, 2) for s in safe], "spearman": measured.spearman}),
                json.dumps({f"{r.strength:+g}": round(r.rate, 3) for r in measured.rows}),
                flush=True,
            )


if __name__ == "__main__":
    main()
