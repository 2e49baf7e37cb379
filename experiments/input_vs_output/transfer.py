"""A steer carried to another model by `lmsteer.transfer`: input site against output site.

python -m experiments.input_vs_output.transfer --data ../shared/data --work WORK

Sentiment from `bundled` to `bundled-small` (other vocabulary, dim 320 to 192) and back. 40 neutral
prompts, 5 samples of 20 tokens, top-p 0.9, at strengths from -4 to 4; style is the share that the
shipped scorer judges positive, `effect` that share at + less that at - where perplexity is so many
times the unsteered text's (a transferred input steer is not rescaled, so that equal strengths mean
nothing, equal costs do). Beside each form of transfer stands what was trained on the target. The
perplexity of 200 texts is uncertain by more than 5%: a curve may cross 1.05 by chance near
strength 0, so that the effect there says little; look at 1.25 and at the rows.

At the input site the default form, "states", has no states to map: it falls back to "two-sided"
(`states_is_two_sided` tells that the two are equal). "weighted" weighs by the metric of the states
before the head, which is not that of the input embeddings; it is left out there.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch

import lmsteer
from experiments.input_vs_output.setting import arguments, at_ratio, keep, steers
from lmsteer import Steer
from lmsteer.alignment.transport import TransferWarning
from lmsteer.generation.records import by_mix
from lmsteer.metrics.scorers import load_scorer
from lmsteer.research.evaluation.measuring import measure
from lmsteer.steer.calibration import StrengthWarning

STRENGTHS = (-4.0, -3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0)
RATIOS = (1.05, 1.1, 1.25)
FORMS = {"input": ("two-sided", "inverse", "transpose"), "output": ("states", "two-sided")}
TRAINED = {"bundled": "in", "bundled-small": "in-small"}
PROMPTS, SAMPLES, TOKENS = 40, 5, 20


def written(source: tuple[Any, Any]) -> list[str]:
    """Text of the source model, as `lmsteer.transfer` would have it, for all forms alike."""
    prompts = lmsteer.read_prompts("bundled:neutral")
    how: dict[str, Any] = {"samples": 4, "max_new_tokens": 48, "top_p": 0.9}
    return [r.prompt + r.text for r in lmsteer.generate(*source, prompts, **how)]


def curve(pair: tuple[Any, Any], steer: Steer, prompts: list[str], scorer: Any) -> dict[str, Any]:
    """Style and cost at each strength, and the effect at equal cost."""
    records = lmsteer.generate(
        *pair,
        prompts,
        strengths=[{steer: s} for s in STRENGTHS],
        samples=SAMPLES,
        max_new_tokens=TOKENS,
        top_p=0.9,
        batch_size=128,
    )
    found: dict[float, dict[str, float]] = {}
    for strength, part in zip(STRENGTHS, by_mix(records, len(STRENGTHS)), strict=True):
        row = measure(*pair, part, {"style": scorer})
        found[strength] = {
            "style": row["style"].value,
            "low": row["style"].low,
            "high": row["style"].high,
            "perplexity": row["perplexity"].value,
        }
    for values in found.values():
        values["ratio"] = values["perplexity"] / found[0.0]["perplexity"]
    costs = {s: (values["style"], values["ratio"]) for s, values in found.items()}
    equal: dict[str, Any] = {}
    for ratio in RATIOS:
        high, low = at_ratio(costs, ratio, 1), at_ratio(costs, ratio, -1)
        # Of a side whose first strength costs more already, nothing can be said.
        gap = None if high is None or low is None else high - low
        equal[f"{ratio:g}"] = {"+": high, "-": low, "effect": gap}
    return {"strengths": {f"{s:+g}": v for s, v in found.items()}, "at_ratio": equal}


def main() -> None:
    """Run from the command line."""
    args = arguments(__doc__)
    warnings.simplefilter("ignore", StrengthWarning)
    warnings.simplefilter("ignore", TransferWarning)
    pairs = {name: lmsteer.load_model(name) for name in TRAINED}
    prompts = lmsteer.read_prompts(args.data / "sentiment_prompts/neutral_prompts.jsonl")[:PROMPTS]
    scorer = load_scorer("sentiment")
    result: dict[str, Any] = {}
    for source, target in (("bundled", "bundled-small"), ("bundled-small", "bundled")):
        rows: dict[str, Any] = {}
        texts = written(pairs[source])
        for site, name in (("input", TRAINED[source]), ("output", "sentiment")):
            own = TRAINED[target] if site == "input" else "sentiment"
            there = steers(args.work, pairs[target][0], [own])[own]
            rows[f"{site}, trained there"] = curve(pairs[target], there, prompts, scorer)
            print(target, site, "trained", rows[f"{site}, trained there"]["at_ratio"], flush=True)
            steer = steers(args.work, pairs[source][0], [name])[name]
            told: Any = {"texts": texts, "calibrate": False}
            carried = {
                form: lmsteer.transfer(pairs[source], pairs[target], steer, form=form, **told)
                for form in FORMS[site]
            }
            for form, other in carried.items():
                rows[f"{site}, {form}"] = {
                    **curve(pairs[target], other, prompts, scorer),
                    "explained": {
                        part: fit["explained"]
                        for part, fit in other.record["transfer"]["fits"].items()
                    },
                    "shared_words": other.record["transfer"]["shared_words"],
                }
                print(target, site, form, rows[f"{site}, {form}"]["at_ratio"], flush=True)
            if site == "input":
                default = lmsteer.transfer(pairs[source], pairs[target], steer, **told)
                rows["states_is_two_sided"] = bool(
                    torch.equal(default.P, carried["two-sided"].P)
                    and torch.equal(default.Q, carried["two-sided"].Q)
                )
        result[f"{source} to {target}"] = rows
    keep("transfer", result, samples=f"{PROMPTS} prompts x {SAMPLES} x {TOKENS} tokens")


if __name__ == "__main__":
    main()
