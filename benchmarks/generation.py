"""What steering costs at decoding, and what batching saves; every comparison in one run.

- decode: seconds a token of a bare loop over the model with its cache, without a steer, with one,
  with ten, and merged; interleaved, so that a noisy machine is noisy for all.
- generate: plain `model.generate` of transformers against `lmsteer.generate` at equal batch.
- paper: prompts x 25 samples x 20 tokens, one prompt and one sample at a time, as the official
  code does it, against ours.
- strengths: eleven strengths of one prompt against one strength, per row.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

import lmsteer
from lmsteer.model.attachment import attach
from lmsteer.model.reading import cache_name

TOKENS = 20


def run(args: argparse.Namespace) -> None:
    """All four parts; prints JSON."""
    model, tokenizer = lmsteer.load_model(args.model)
    dim = model.get_output_embeddings().weight.shape[1]
    torch.manual_seed(0)
    steers = [
        lmsteer.Steer(torch.randn(dim, 8) * 0.01, torch.randn(dim, 8) * 0.01, f"s{i}")
        for i in range(10)
    ]
    prompts = lmsteer.read_prompts("bundled:neutral")
    prompts = [prompts[i % len(prompts)] for i in range(args.prompts)]
    told: dict[str, Any] = {
        "model": args.model,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "rank": 8,
    }
    for batch in (1, 32):
        told[f"decode, batch {batch}"] = decode(model, steers, batch, args.repeats)
    for batch in (1, 32):
        told[f"generate, batch {batch}"] = against_plain(
            model, tokenizer, prompts, steers[0], batch, args.repeats
        )
    told["strengths"] = many_strengths(model, tokenizer, prompts[0], steers[0], args.repeats)
    told["paper"] = paper(model, tokenizer, prompts, steers[0], args.official_prompts)
    print(json.dumps(told, indent=1))


def interleaved(arms: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each arm, `repeats` times, in turn and each time in another order."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for arm in arms.values():
        arm()
    for number in range(repeats):
        names = list(arms)
        names = names[number % len(names) :] + names[: number % len(names)]
        for name in names:
            begun = time.perf_counter()
            arms[name]()
            seconds[name].append(time.perf_counter() - begun)
    return seconds


def ratios(seconds: dict[str, list[float]], base: str, unit: float) -> dict[str, Any]:
    """Median of each arm in milliseconds a unit, and of its paired ratios to `base`."""
    return {
        name: {
            "ms": round(1e3 * statistics.median(values) / unit, 3),
            "ratio": round(
                statistics.median(v / b for v, b in zip(values, seconds[base], strict=True)), 4
            ),
        }
        for name, values in seconds.items()
    }


@torch.inference_mode()
def loop(model: Any, batch: int, tokens: int) -> None:
    """A bare greedy loop with the model's cache."""
    ids = torch.arange(batch * 8).view(batch, 8) % 200 + 5
    cache, name = None, cache_name(model)
    for _ in range(tokens):
        found = model(input_ids=ids, use_cache=True, **{name: cache})
        cache, ids = found[name], found.logits[:, -1:].argmax(-1)


def decode(model: Any, steers: list[lmsteer.Steer], batch: int, repeats: int) -> dict[str, Any]:
    """The bare loop under each kind of steering."""
    merged = lmsteer.merge(model, {steers[0]: 1.0})

    def under(strengths: dict[lmsteer.Steer, Any]) -> Callable[[], None]:
        def arm() -> None:
            with attach(model, strengths, check=False):
                loop(model, batch, TOKENS)

        return arm

    rows = torch.linspace(-1, 1, batch) + 0.5
    arms = {
        "unsteered": lambda: loop(model, batch, TOKENS),
        "one steer": under({steers[0]: 1.0}),
        "one steer, a strength a row": under({steers[0]: rows}),
        "ten steers": under(dict.fromkeys(steers, 1.0)),
        "merged": lambda: loop(merged, batch, TOKENS),
    }
    return ratios(interleaved(arms, repeats), "unsteered", TOKENS)


def plain(model: Any, tokenizer: Any, prompts: list[str], batch: int, samples: int) -> None:
    """What a user writes with transformers alone."""
    tokenizer.padding_side = "left"
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    rows = [prompt for prompt in prompts for _ in range(samples)]
    for start in range(0, len(rows), batch):
        given = tokenizer(rows[start : start + batch], return_tensors="pt", padding=True)
        ids = model.generate(
            input_ids=given["input_ids"],
            attention_mask=given["attention_mask"],
            do_sample=True,
            top_p=0.9,
            top_k=0,
            max_new_tokens=TOKENS,
            min_new_tokens=TOKENS,
            pad_token_id=pad,
        )
        tokenizer.batch_decode(ids[:, given["input_ids"].shape[1] :], skip_special_tokens=True)


OPTIONS = {"max_new_tokens": TOKENS, "min_new_tokens": TOKENS, "top_p": 0.9}


def against_plain(
    model: Any, tokenizer: Any, prompts: list[str], steer: lmsteer.Steer, batch: int, repeats: int
) -> dict[str, Any]:
    """Equal batches, prompts and samples: one batch of different prompts; then 25 of one prompt."""
    few = prompts[:batch]
    if batch == 1:
        arms = {
            "transformers": lambda: plain(model, tokenizer, few, 1, 1),
            "lmsteer": lambda: lmsteer.generate(
                model, tokenizer, few, strengths={steer: 1.0}, batch_size=1, **OPTIONS
            ),
        }
    else:
        arms = {
            "transformers": lambda: plain(model, tokenizer, few, batch, 1),
            "lmsteer": lambda: lmsteer.generate(
                model, tokenizer, few, strengths={steer: 1.0}, batch_size=batch, **OPTIONS
            ),
            "transformers, one prompt": lambda: plain(model, tokenizer, few[:1], batch, batch),
            "lmsteer, one prompt": lambda: lmsteer.generate(
                model,
                tokenizer,
                few[:1],
                strengths={steer: 1.0},
                samples=batch,
                batch_size=batch,
                **OPTIONS,
            ),
        }
    return ratios(interleaved(arms, repeats), "transformers", batch * TOKENS)


def many_strengths(
    model: Any, tokenizer: Any, prompt: str, steer: lmsteer.Steer, repeats: int
) -> dict[str, Any]:
    """Milliseconds a row: 11 strengths of one prompt against as many samples at one strength."""
    strengths = [{steer: float(s)} for s in range(-5, 6)]
    arms = {
        "one strength, 11 samples": lambda: lmsteer.generate(
            model, tokenizer, prompt, strengths={steer: 1.0}, samples=11, **OPTIONS
        ),
        "11 strengths": lambda: lmsteer.generate(
            model, tokenizer, prompt, strengths=strengths, **OPTIONS
        ),
        "one strength, one row": lambda: lmsteer.generate(
            model, tokenizer, prompt, strengths={steer: 1.0}, **OPTIONS
        ),
    }
    found = ratios(interleaved(arms, repeats), "one strength, 11 samples", 11)
    found["one strength, one row"]["ms"] = round(found["one strength, one row"]["ms"] * 11, 3)
    return found


def paper(
    model: Any, tokenizer: Any, prompts: list[str], steer: lmsteer.Steer, official: int
) -> dict[str, Any]:
    """The paper's setting, 25 x 20; the official loop on a few of the prompts, extrapolated."""
    begun = time.perf_counter()
    lmsteer.generate(
        model, tokenizer, prompts, strengths={steer: 1.0}, samples=25, batch_size=256, **OPTIONS
    )
    ours = time.perf_counter() - begun
    begun = time.perf_counter()
    with attach(model, {steer: 1.0}, check=False):
        for prompt in prompts[:official]:
            for _ in range(25):
                plain(model, tokenizer, [prompt], 1, 1)
    theirs = (time.perf_counter() - begun) * len(prompts) / official
    return {
        "prompts": len(prompts),
        "samples": 25,
        "tokens": TOKENS,
        "ours_seconds": round(ours, 2),
        "official_loop_seconds": round(theirs, 2),
        "official_measured_on": official,
        "times_faster": round(theirs / ours, 2),
    }
