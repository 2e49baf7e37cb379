"""Following an instruction: storybyte-nano (445k parameters), steered on the request.

python -m experiments.checkpoints.convert storybyte-nano CHECKPOINTS/storybyte-nano WORK/storybyte
python -m experiments.input_vs_output.instructions --data ../shared/data --work WORK

"Tell me a story about a dog named Max": does the story have the animal and the name? Two contrasts
are learned from the checkpoint's own requests and stories, at three places (input on the request
alone, input everywhere, output), and dialled from -4 to 4 on the requests that are held out:

- `obey`: a request before its own story (+1) or before another request's (-1); measured as the
  share of stories that have both animal and name, and how often each is named;
- `dialogue`: stories with direct speech (+1) or without (-1); measured by quotation marks.

Its request tokens for dialogue (`<|talk|>`, `<|notalk|>`) are in the vocabulary but untrained in
this checkpoint: told to talk or not to, it does neither; that is measured too.
"""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import lmsteer
from experiments.input_vs_output.setting import arguments, keep
from lmsteer import Example
from lmsteer.generation.records import by_mix
from lmsteer.metrics.fluency import perplexity
from lmsteer.metrics.style import mean_score
from lmsteer.steer.calibration import StrengthWarning

STRENGTHS = (-4.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 4.0)
PLACES = {
    "input, request only": {"site": "input", "where": "prompt"},
    "input": {"site": "input"},
    "output": {"site": "output", "solver": "convex"},
}


def requests(folder: Path, split: str) -> list[dict[str, Any]]:
    """Rows of ``requests_{split}.jsonl``."""
    lines = (folder / f"requests_{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def prompt_of(row: dict[str, Any], *, told: str = "") -> str:
    """As the checkpoint was tuned."""
    return f"<|req|> {row['request']} {told}<|story|>"


def obey(rows: Sequence[dict[str, Any]]) -> list[Example]:
    """Each request before its own story, and before one of another animal and name."""
    chance, found = random.Random(0), []
    for row in rows:
        others = [r for r in rows if r["name"] != row["name"] and r["animal"] != row["animal"]]
        found.append(Example(" " + row["story"], 1.0, prompt=prompt_of(row)))
        found.append(Example(" " + chance.choice(others)["story"], -1.0, prompt=prompt_of(row)))
    return found


def dialogue(rows: Sequence[dict[str, Any]]) -> list[Example]:
    """With direct speech or without."""
    return [
        Example(" " + r["story"], 1.0 if r["has_dialogue"] else -1.0, prompt=prompt_of(r))
        for r in rows
    ]


def main() -> None:
    """Run from the command line."""
    args = arguments(__doc__)
    warnings.simplefilter("ignore", StrengthWarning)
    model, tokenizer = lmsteer.load_model(str(args.work / "storybyte"))
    folder = args.data / "checkpoints/storybyte-nano"
    learned, asked = requests(folder, "train"), requests(folder, "val")
    of = {prompt_of(row): row for row in asked}
    result: dict[str, Any] = {}

    def measured(records: Sequence[Any]) -> dict[str, Any]:
        texts = [r.text.lower() for r in records]
        rows = [of[r.prompt.replace("<|talk|> ", "").replace("<|notalk|> ", "")] for r in records]
        animal = np.array([row["animal"].lower() in t for t, row in zip(texts, rows, strict=True)])
        name = np.array([row["name"].lower() in t for t, row in zip(texts, rows, strict=True)])
        both = mean_score(records, (animal & name).astype(float))
        talk = mean_score(records, np.array(['"' in t for t in texts], dtype=float))
        return {
            "both": [both.value, both.low, both.high],
            "animal": float(animal.mean()),
            "name": float(name.mean()),
            "dialogue": [talk.value, talk.low, talk.high],
            "perplexity": perplexity(model, tokenizer, records).value,
        }

    how: dict[str, Any] = {"samples": 4, "max_new_tokens": 120, "top_p": 0.9, "batch_size": 128}
    for told in ("", "<|talk|> ", "<|notalk|> "):
        prompts = [prompt_of(row, told=told) for row in asked]
        records = lmsteer.generate(model, tokenizer, prompts, **how)
        result[f"unsteered {told}".strip()] = measured(records)
    for contrast, examples in (("obey", obey(learned)), ("dialogue", dialogue(learned))):
        for place, options in PLACES.items():
            steer = lmsteer.train(
                model, tokenizer, examples, name=contrast, calibrate=False, **options
            )
            records = lmsteer.generate(
                model,
                tokenizer,
                list(of),
                strengths=[{steer: s} for s in STRENGTHS],
                where=options.get("where", "all"),
                **how,
            )
            rows = {
                f"{s:+g}": measured(part)
                for s, part in zip(STRENGTHS, by_mix(records, len(STRENGTHS)), strict=True)
            }
            result[f"{contrast}: {place}"] = {"held_out": steer.record["held_out"], **rows}
            print(contrast, place, json.dumps(result[f"{contrast}: {place}"]), flush=True)
    keep("instructions", result, requests=len(asked), learned_from=len(learned))


if __name__ == "__main__":
    main()
