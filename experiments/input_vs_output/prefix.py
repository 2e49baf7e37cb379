"""Prefix tuning of a steer's size, measured as the steers are in reading.py and writing.py.

python -m experiments.input_vs_output.prefix --data ../shared/data --work WORK

`lmsteer.research.methods.PrefixTuning` (PEFT), one prefix per side from the texts of SST-5 that the
steers learned from; it is on or off, so that there are three strengths. Its default length makes
about the numbers of one rank-32 matrix, and two sides are two prefixes where a steer is one matrix.

- `writing`: judged style, perplexity, repetition of 60 neutral prompts x 5 samples x 20 tokens;
- `reading`: the shift of P(good words) - P(bad words) after 240 reviews, in standard deviations of
  the unsteered readings, how well the reading still follows the review, and the two costs.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

import lmsteer
from experiments.input_vs_output.reading import (
    given_nll,
    lexicon,
    paragraphs,
    readings,
    review_prompts,
    single,
)
from experiments.input_vs_output.setting import arguments, keep
from experiments.shared import styles
from lmsteer.metrics.fluency import perplexity
from lmsteer.metrics.scorers import load_scorer
from lmsteer.research.evaluation.measuring import measure
from lmsteer.research.methods.prefix import PrefixTuning

SIDES = (-1.0, 0.0, 1.0)
HOW: dict[str, Any] = {"max_new_tokens": 20, "top_p": 0.9, "batch_size": 128}


def writing(model: Any, tokenizer: Any, method: PrefixTuning, data: Path) -> dict[str, Any]:
    """Style and cost of what is written."""
    prompts = lmsteer.read_prompts(data / "sentiment_prompts/neutral_prompts.jsonl")[:60]
    found: dict[str, Any] = {}
    for side in SIDES:
        records = method.generate(model, tokenizer, prompts, side, samples=5, **HOW)
        row = measure(model, tokenizer, records, {"style": load_scorer("sentiment")})
        found[f"{side:+g}"] = {
            "low": row["style"].low,
            "high": row["style"].high,
            **{k: row[k].value for k in ("style", "perplexity", "repetition", "distinct_2")},
        }
    for row in found.values():
        row["ratio"] = row["perplexity"] / found["+0"]["perplexity"]
    return found


def reading(model: Any, tokenizer: Any, method: PrefixTuning, data: Path) -> dict[str, Any]:
    """Shift of the readings, and its costs."""
    words = [
        single(tokenizer, lexicon(data / f"lexicons/{n}-words.txt"))
        for n in ("positive", "negative")
    ]
    (texts, labels), halves = review_prompts(data), paragraphs(data)
    base = readings(model, tokenizer, texts, *words)
    found: dict[str, Any] = {}
    for side in SIDES:
        records = method.generate(model, tokenizer, texts, side, samples=2, **HOW)
        with method.attach(model, side):
            read = readings(model, tokenizer, texts, *words)
            given = float(np.exp(given_nll(model, tokenizer, halves)))
        shifts = (read - base) / base.std()
        error = 1.96 * shifts.std() / len(shifts) ** 0.5
        found[f"{side:+g}"] = {
            "shift": float(shifts.mean()),
            "low": float(shifts.mean() - error),
            "high": float(shifts.mean() + error),
            "auc": float(roc_auc_score(labels, read)),
            "written": perplexity(model, tokenizer, records).value,
            "given": given,
        }
    plain = dict(found["+0"])
    for row in found.values():
        for cost in ("written", "given"):
            row[cost] /= plain[cost]
    return found


def main() -> None:
    """Run from the command line."""
    args = arguments(__doc__)
    model, tokenizer = lmsteer.load_model("bundled")
    examples = list(styles.sentiment(args.data).examples)
    began = time.perf_counter()
    method = PrefixTuning.fit(model, tokenizer, examples)
    seconds = time.perf_counter() - began
    print(f"fit {seconds:.0f} s, {method.tokens} tokens", flush=True)
    result: dict[str, Any] = {"writing": writing(model, tokenizer, method, args.data)}
    print(result, flush=True)
    result["reading"] = reading(model, tokenizer, method, args.data)
    print(result["reading"], flush=True)
    keep(
        "prefix",
        result,
        fit_seconds=seconds,
        tokens=method.tokens,
        numbers_a_side=method.parameters,
        examples=len(examples),
    )


if __name__ == "__main__":
    main()
