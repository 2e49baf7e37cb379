"""`python -m benchmarks real --model smollm2`: ours against what plain torch and transformers do.

"Fast" is the fastest dtype that the processor has: bf16 where it multiplies that, else float32.

- pass: tokens per second of `read_states` against a plain loop over the same model in the fast
  dtype, without autocast, in batches of several shapes; the limit is the best of them, the packed
  one included, whose rows have no pads. And of the head's part, `token_nll`, against the bare
  product.
- generation: `model.generate(do_sample=True, top_p=.9)` against `lmsteer.generate`, in float32 and
  in the fast dtype, with the share of the time that drawing tokens takes.
- training: the whole of `train`, with calibration and without, in passes of trunk and head over the
  same tokens: `read_states` and `token_nll`, and plain torch, both in the fast dtype, and plain
  torch in float32.
- memory: the measured peak of training beside the formula, each in a process of its own.

Arms are interleaved and medians are quoted. With OMP_NUM_THREADS=1 the times are the process's own
and stand on a busy machine too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

import lmsteer
from lmsteer.generation.sampling import Pick
from lmsteer.model.head import read_head, token_nll
from lmsteer.model.modes import fast_dtype
from lmsteer.states.hidden import read_states
from lmsteer.text import batch_texts, encode, pad_batch
from lmsteer.training.objective import mean_nll

from . import generation
from .memory import apart, load

CPU = torch.device("cpu")
FAST = str(fast_dtype(CPU)).removeprefix("torch.")


def run(args: argparse.Namespace) -> None:
    """The parts that are asked for, all by default; JSON as each is done."""
    parts = {"pass": passes, "training": training, "generation": writing, "memory": peaks}
    told = {"model": args.model, "threads": torch.get_num_threads(), "fast": FAST}
    print(json.dumps(told), flush=True)
    for name in args.part or parts:
        print(json.dumps({name: parts[name](args)}, indent=1), flush=True)


def clock() -> float:
    """Seconds: of this process, if it has one thread."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def interleaved(arms: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """The median seconds of each arm; a first round is not counted, unless it is the only one."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(repeats + 1):
        for name, arm in arms.items():
            begun = clock()
            arm()
            if number or not repeats:
                seconds[name].append(clock() - begun)
    return {name: statistics.median(values) for name, values in seconds.items()}


def plainly(name: str) -> Any:
    """The model as transformers alone would give it in the fast dtype."""
    if name == "random-gpt2":
        return load(name)[0].to(fast_dtype(CPU))
    return lmsteer.load_model(name, dtype=FAST)[0]


def passes(args: argparse.Namespace) -> dict[str, Any]:
    """Tokens per second of the trunk, and of the head."""
    model, tokenizer = load(args.model)
    bare = plainly(args.model).base_model
    examples = lmsteer.read_examples(args.data, label=args.label, scale=args.scale or None)
    step = max(1, len(examples) // args.texts)
    encoded = encode(tokenizer, examples[::step][: args.texts], max_length=256)
    stream = torch.tensor([token for ids in encoded.ids for token in ids])

    def padded(size: int) -> Iterator[dict[str, Any]]:
        for texts in batch_texts(encoded, size):
            yield pad_batch(encoded, texts).inputs(CPU)

    def packed(size: int, length: int = 32) -> Iterator[dict[str, Any]]:
        whole = stream[: len(stream) // length * length].view(-1, length)
        for rows in whole.split(max(1, size // length)):
            yield {"input_ids": rows}

    @torch.inference_mode()
    def plain(batches: Iterator[dict[str, Any]]) -> None:
        for inputs in batches:
            bare(**inputs, use_cache=False)

    sizes = (512, 1024, 2048, 4096)
    arms: dict[str, Callable[[], Any]] = {
        "lmsteer": lambda: read_states(model, encoded, fast=True),
        "lmsteer, float32": lambda: read_states(model, encoded),
        **{f"plain, {n} padded": lambda n=n: plain(padded(n)) for n in sizes},
        **{f"plain, {n} packed": lambda n=n: plain(packed(n)) for n in sizes},
    }
    seconds = interleaved(arms, args.repeats)
    rates = {name: round(len(stream) / value) for name, value in seconds.items()}
    best = max(rate for name, rate in rates.items() if name.startswith("plain"))
    slots = sum(batch["input_ids"].numel() for batch in padded(1024))
    found: dict[str, Any] = {"tokens": len(stream), "pads": round(1 - len(stream) / slots, 4)}
    found |= {"tokens_per_s": rates, "of the limit": round(rates["lmsteer"] / best, 3)}
    return found | {"head": head_alone(model, args.repeats)}


def training(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of the default training and of a pass over the same tokens."""
    model, tokenizer = load(args.model)
    fast = plainly(args.model)
    examples = lmsteer.read_examples(args.data, label=args.label, scale=args.scale or None)
    examples = examples[:: max(1, len(examples) // args.texts)][: args.texts]
    encoded = encode(tokenizer, examples, max_length=256)

    @torch.inference_mode()
    def plain(whole: Any) -> None:
        for texts in batch_texts(encoded, 1024):
            inputs = pad_batch(encoded, texts).inputs(CPU)
            scores = whole(**inputs, use_cache=False).logits[:, :-1].flatten(0, 1)
            wanted = inputs["input_ids"][:, 1:].flatten()
            for part, target in zip(scores.split(256), wanted.split(256), strict=True):
                torch.nn.functional.cross_entropy(part.float(), target)

    def ours() -> None:
        states = read_states(model, encoded, fast=True)
        mean_nll(read_head(model).fast(), states, None)

    def train(calibrate: bool, domain: bool = True) -> None:
        lmsteer.train(model, tokenizer, examples, calibrate=calibrate, domain=domain, progress=None)

    arms: dict[str, Callable[[], Any]] = {
        "a pass, lmsteer": ours,
        **{
            f"a pass, plain {str(one.dtype)[6:]}": lambda one=one: plain(one)
            for one in {id(one.dtype): one for one in (model, fast)}.values()
        },
        "train, style alone": lambda: train(False, domain=False),
        "train": lambda: train(False),
        "train and calibrate": lambda: train(True),
    }
    seconds = interleaved(arms, args.repeats)
    passes = [k for k in seconds if k.startswith("a pass")]
    return {
        "tokens": int(encoded.target_counts.sum()),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        **{
            f"{name}, in passes": {k: round(value / seconds[k], 2) for k in passes}
            for name, value in seconds.items()
            if name not in passes
        },
    }


def head_alone(model: Any, repeats: int, rows: int = 1024) -> dict[str, Any]:
    """The head's product alone, and with the logarithm of its sums, in the fast dtype."""
    head = read_head(model).fast()
    hidden = torch.randn(rows, head.weight.shape[1]).to(head.weight.dtype)
    targets = torch.arange(rows) % len(head.weight)

    @torch.inference_mode()
    def product() -> None:
        for part in hidden.split(256):
            torch.nn.functional.linear(part, head.weight)

    @torch.inference_mode()
    def rowwise() -> None:
        for part, wanted in zip(hidden.split(256), targets.split(256), strict=True):
            scores = torch.nn.functional.linear(part, head.weight)
            scores.log_softmax(-1, dtype=torch.float32).gather(1, wanted[:, None])

    seconds = interleaved(
        {
            "product alone": product,
            "log_softmax of whole rows": rowwise,
            "token_nll": lambda: token_nll(head, hidden, targets),
        },
        repeats,
    )
    return {name: f"{rows / value:.0f} tokens/s" for name, value in seconds.items()}


def writing(args: argparse.Namespace) -> dict[str, Any]:
    """Tokens per second of both, and the share of ours that drawing takes."""
    prompts = lmsteer.read_prompts("bundled:neutral")
    spent = [0.0]
    call = Pick.__call__

    def timed(self: Pick, *given: Any) -> Any:
        begun = clock()
        try:
            return call(self, *given)
        finally:
            spent[0] += clock() - begun

    found: dict[str, Any] = {}
    for dtype in dict.fromkeys(("float32", FAST)):
        model, tokenizer = lmsteer.load_model(args.model, dtype=dtype)
        for batch in args.batches:
            few = [prompts[i % len(prompts)] for i in range(batch)]

            def theirs(
                few: list[str] = few, model: Any = model, tokenizer: Any = tokenizer
            ) -> None:
                model.requires_grad_(True)  # as from_pretrained leaves it
                with torch.inference_mode():
                    generation.plain(model, tokenizer, few, len(few), 1)
                model.requires_grad_(False)

            def ours(few: list[str] = few, model: Any = model, tokenizer: Any = tokenizer) -> None:
                options = {**generation.OPTIONS, "batch_size": len(few), "progress": None}
                lmsteer.generate(model, tokenizer, few, **options)

            seconds = interleaved({"transformers": theirs, "lmsteer": ours}, args.repeats)
            Pick.__call__ = timed  # type: ignore[method-assign]
            spent[0], begun = 0.0, clock()
            ours()
            share = spent[0] / (clock() - begun)
            Pick.__call__ = call  # type: ignore[method-assign]
            rates = {k: round(batch * generation.TOKENS / v, 1) for k, v in seconds.items()}
            found[f"{dtype}, batch {batch}"] = {
                **rates,
                "ratio": round(rates["lmsteer"] / rates["transformers"], 3),
                "drawing": round(share, 3),
            }
    return found


def peaks(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measured and expected peaks."""
    arms = ("newton:fast", "newton:exact", "convex:fast")
    return [apart(args.model, arm, args.texts) for arm in arms]
