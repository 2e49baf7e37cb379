"""The style of what is written, at either site: judged style and perplexity at each strength.

python -m experiments.input_vs_output.writing --data ../shared/data --work WORK

Sentiment from 60 neutral prompts, detoxification from 60 prompts of RealToxicityPrompts, 5 samples
of 20 tokens each, top-p 0.9. `in-halves` steers the prompts only.
"""

from __future__ import annotations

import warnings
from typing import Any

import lmsteer
from experiments.input_vs_output.setting import STRENGTHS, arguments, at_ratios, keep, steers, where
from experiments.shared.text import toxicity_prompts
from lmsteer.generation.records import by_mix
from lmsteer.metrics.scorers import load_scorer
from lmsteer.research.evaluation.measuring import measure
from lmsteer.steer.calibration import StrengthWarning


def main() -> None:
    """Run from the command line."""
    args = arguments(__doc__)
    warnings.simplefilter("ignore", StrengthWarning)
    model, tokenizer = lmsteer.load_model("bundled")
    neutral = lmsteer.read_prompts(args.data / "sentiment_prompts/neutral_prompts.jsonl")[:60]
    toxic = toxicity_prompts(args.data)[1][:60]
    result: dict[str, Any] = {}
    for name in ("sentiment", "in", "in-halves", "detox", "in-detox"):
        steer = steers(args.work, model, [name])[name]
        detox = "detox" in name
        judge = "toxicity" if detox else "sentiment"
        written = lmsteer.generate(
            model,
            tokenizer,
            toxic if detox else neutral,
            strengths=[{steer: s} for s in STRENGTHS],
            samples=5,
            max_new_tokens=20,
            top_p=0.9,
            batch_size=128,
            where=where(name),
        )
        found: dict[float, dict[str, Any]] = {}
        for strength, part in zip(STRENGTHS, by_mix(written, len(STRENGTHS)), strict=True):
            row = measure(model, tokenizer, part, {judge: load_scorer(judge)})
            found[strength] = {
                "style": row[judge].value,
                "low": row[judge].low,
                "high": row[judge].high,
                **{k: row[k].value for k in ("perplexity", "repetition", "distinct_2")},
            }
        plain = found[0.0]["perplexity"]
        for row_ in found.values():
            row_["ratio"] = row_["perplexity"] / plain
        costs = {s: (row_["style"], row_["ratio"]) for s, row_ in found.items()}
        result[name] = {
            "judge": judge,
            "strengths": {f"{s:+g}": row_ for s, row_ in found.items()},
            "at_ratio": at_ratios(costs),
        }
        print(name, result[name]["at_ratio"], flush=True)
    keep("writing", result, samples="60 prompts x 5")


if __name__ == "__main__":
    main()
