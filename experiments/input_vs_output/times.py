"""Training time: an input steer against plain LoRA of the same texts, batches and steps.

python -m experiments.input_vs_output.times --data ../shared/data --work WORK

40 steps of 32 sentences of SST-5 each, on `bundled`, in the precision that lmsteer chooses by
default on this machine; three repeats of all, one after the other in turn:

- `input steer`: `lmsteer.train(site="input")`, rank 32, with its domain part;
- `input steer, tenth held out`: the same with lmsteer's default of 0.1, judged 8 times on the way
  and on all held-out texts at the end, which LoRA here is not;
- `LoRA, q and v` and `LoRA, all linear`: PEFT at r = 8, the first as PEFT's own default is for
  Llama; AdamW, the model's own `loss`, batches of one length as lmsteer's are, one adapter (a user
  of both signs trains two).

`seconds` are those of the whole call, tokenizing included; `step` is the median of a step.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import peft
import torch

import lmsteer
from experiments.input_vs_output.setting import arguments, keep
from experiments.shared import styles
from lmsteer import Example
from lmsteer.model.modes import autocast
from lmsteer.states.hidden import fast_dtype
from lmsteer.text.batch import padded

STEPS, BATCH, REPEATS = 40, 32, 3
HELD_OUT = 0.1


class Clock:
    """When each step was done."""

    def __init__(self) -> None:
        self.began, self.steps = time.perf_counter(), []

    def step(self, stage: str = "fit", done: int = 0, total: int = 0) -> None:
        """As the library's `progress` is called."""
        if stage == "fit":
            self.steps.append(time.perf_counter())

    def stop(self) -> dict[str, float]:
        """Seconds altogether, and of a step; the first step has none before it."""
        gaps = [b - a for a, b in zip(self.steps, self.steps[1:], strict=False)]
        return {"seconds": time.perf_counter() - self.began, "step": median(gaps)}


def input_steer(
    model: Any, tokenizer: Any, examples: list[Example], *, held_out: float
) -> dict[str, float]:
    """One training run of the library."""
    clock = Clock()
    lmsteer.train(
        model,
        tokenizer,
        examples,
        site="input",
        steps=STEPS,
        held_out=held_out,
        calibrate=False,
        progress=clock.step,
    )
    return clock.stop()


def lora(model: Any, tokenizer: Any, examples: list[Example], *, modules: Any) -> dict[str, float]:
    """One adapter, by PEFT and a plain loop."""
    clock = Clock()
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules=modules)
    torch.manual_seed(0)
    asked = {p: p.requires_grad for p in model.parameters()}
    inside = peft.get_peft_model(model, config).train()
    learned = [p for p in inside.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learned, lr=1e-3)
    begin = [tokenizer.bos_token_id]
    rows = tokenizer([e.text for e in examples], add_special_tokens=False)["input_ids"]
    rows = sorted((begin + row for row in rows), key=len)
    batches = [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
    random.Random(0).shuffle(batches)
    for batch in batches:
        ids, mask = padded(batch, 0)
        with autocast(ids.device, True):
            labels = ids.masked_fill(mask == 0, -100)
            loss = inside(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        clock.step()
    found = clock.stop()
    inside.unload()
    for parameter, wish in asked.items():
        parameter.requires_grad_(wish)
    model.eval()
    return found


def main() -> None:
    """Run from the command line."""
    args = arguments(__doc__)
    model, tokenizer = lmsteer.load_model("bundled")
    every = list(styles.sentiment(args.data).examples)
    random.Random(0).shuffle(every)
    examples = every[: STEPS * BATCH]
    more = every[: round(STEPS * BATCH / (1 - HELD_OUT))]
    ways: dict[str, Callable[[], dict[str, float]]] = {
        "input steer": lambda: input_steer(model, tokenizer, examples, held_out=0.0),
        "input steer, tenth held out": lambda: input_steer(
            model, tokenizer, more, held_out=HELD_OUT
        ),
        "LoRA, q and v": lambda: lora(model, tokenizer, examples, modules=None),
        "LoRA, all linear": lambda: lora(model, tokenizer, examples, modules="all-linear"),
    }
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for _ in range(REPEATS):
        for name, way in ways.items():
            runs[name].append(way())
            print(name, runs[name][-1], flush=True)
    medians = {
        name: {key: median(run[key] for run in found) for key in ("seconds", "step")}
        for name, found in runs.items()
    }
    ratios = {
        f"{ours} / {theirs}": {key: medians[ours][key] / medians[theirs][key] for key in row}
        for ours in list(ways)[:2]
        for theirs, row in list(medians.items())[2:]
    }
    keep(
        "times",
        {"runs": runs, "median": medians, "ratio": ratios},
        steps=STEPS,
        batch=BATCH,
        precision=str(fast_dtype(torch.device("cpu"))),
    )
    print(medians, ratios)


if __name__ == "__main__":
    main()
