"""Train, calibrate and measure the steers that come with the package.

python -m experiments.shipped_steers.train --data ../shared/data
python -m experiments.shipped_steers.train --models smollm2

The effect of each strength is measured on text sampled from the package's prompts, by two judges
that never met the steer's text (`../shared/styles.py`): n-grams and a probe that reads with MiniLM.
The steers of the bundled models are learned by the solver convex, which is ahead there, and carry
the n-grams' verdict. Those of SmolLM2 are learned by the default solver, sentiment from the model's
own writing too; they come without their domain part (1.3 MB at its width), and carry the probe's
verdict. Their detoxification, which does not ship, is measured on toxic prompts: from neutral ones
the model writes little that could be mended. `--results` gets both judges' tables, and for SmolLM2
also those of chat prompts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import lmsteer
from experiments.shared.styles import STYLES, Style
from experiments.shared.text import toxicity_prompts
from experiments.shipped_steers.effect import effects
from lmsteer.recipes import self_train
from lmsteer.steer import Effect

NGRAMS = "n-grams that never met the steer's text"
PROBE = "a linear probe on MiniLM's hidden states that never met the steer's text"
MADE: dict[str, dict[str, Any]] = {
    "bundled": {"solver": "convex"},
    "bundled-small": {"solver": "convex"},
    "smollm2": {"rank": 16},
}
"""How the steers of each model are learned."""
REAL = ("smollm2",)
SELF_TRAINED = {("smollm2", "sentiment"): 6_000}
"""The steers that learn from the model's own writing too, and from how many of its texts."""
CHAT = "Continue this text: {}"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("src/lmsteer/assets/steers"))
    parser.add_argument("--results", type=Path, default=Path("experiments/shipped_steers/results"))
    parser.add_argument("--models", nargs="+", default=list(MADE), choices=list(MADE))
    parser.add_argument("--styles", nargs="+", default=list(STYLES))
    args = parser.parse_args()
    for model_name in args.models:
        model, tokenizer = lmsteer.load_model(model_name)
        for name in args.styles:
            style = STYLES[name](args.data)
            steer = learned(model, tokenizer, model_name, name, style)
            real = model_name in REAL
            of, texts = f"bundled:{style.prompts}", 200 if real else 400
            if real and name == "detox":  # most texts are harmless at any strength: take more
                of, texts = "RealToxicityPrompts, toxicity of at least .5", 800
                prompts = toxicity_prompts(args.data)[1][:200]
            else:
                prompts = lmsteer.read_prompts(of)[:50]
            judges = {NGRAMS: style.judge, PROBE: style.reader()}
            told = {"style": style.plus, "of": of}
            measured = {"plain": effects(model, tokenizer, steer, judges, prompts, texts, **told)}
            if real:
                asked = [CHAT.format(prompt) for prompt in prompts]
                measured["chat"] = effects(
                    model, tokenizer, steer, judges, asked, texts // 2, chat=True, **told
                )
            steer = replace(steer, effect=measured["plain"][int(real)])
            steer.save(args.out / model_name / name, force=True)
            tables = {form: [asdict(e) for e in found] for form, found in measured.items()}
            result = args.results / model_name / f"{name}.json"
            result.parent.mkdir(parents=True, exist_ok=True)
            result.write_text(json.dumps(tables, indent=1) + "\n", encoding="utf-8")
            tell(f"{model_name} {steer}", steer, measured)


def learned(model: Any, tokenizer: Any, model_name: str, name: str, style: Style) -> lmsteer.Steer:
    """The steer with its calibration; its record names the texts."""
    real, source = model_name in REAL, style.source
    options = {"name": name, "balance": style.balance, "calibrate": False} | MADE[model_name]
    if texts := SELF_TRAINED.get((model_name, name)):
        steer = self_train(model, tokenizer, style.examples, texts=texts, **options)
        source += "; and texts that the model wrote, labelled by n-grams of those sentences"
    else:
        steer = lmsteer.train(model, tokenizer, style.examples, **options)
    record = {**steer.record, "source": source}
    if real:  # its figures are those of the steer with its domain part
        record.pop("held_out", None)
        steer = replace(steer, domain=None)
    steer = replace(steer, record=record)
    return lmsteer.calibrate(model, tokenizer, steer, samples=4 if real else 16)


def tell(title: str, steer: lmsteer.Steer, measured: Mapping[str, Sequence[Effect]]) -> None:
    """Print the rates and what they cost."""
    safe = steer.calibration.safe if steer.calibration else ()
    print(title, json.dumps([round(s, 2) for s in safe]), flush=True)
    for form, found in measured.items():
        for effect in found:
            base = next(r.perplexity for r in effect.rows if r.strength == 0)
            rates = [
                f"{r.strength:+g}: {r.rate:.2f} x{r.perplexity / base:.2f}" for r in effect.rows
            ]
            print(f"  {form}, {effect.judge.split(' that ')[0]}, {effect.spearman}:", *rates)


if __name__ == "__main__":
    main()
