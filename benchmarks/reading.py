"""Spans and style value of a 512-token text, against one pass of the model over it.

python -m benchmarks read --repeats 30

Interleaved, paired medians. The pass is the model's own forward with its log-probabilities of the
text: what reading its likelihood once costs anyway.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

import lmsteer
from lmsteer.interpretation.reading import read_texts


def run(args: argparse.Namespace) -> None:
    """Print both times and their ratio."""
    model, tokenizer = lmsteer.load_model(args.model)
    steer = lmsteer.load_steer(args.steer, model)
    prompts = lmsteer.read_prompts("bundled:neutral")
    (record,) = lmsteer.generate(
        model, tokenizer, prompts[0], max_new_tokens=500, min_new_tokens=500, top_p=0.9
    )
    text = record.prompt + record.text
    ids = torch.tensor([tokenizer(text)["input_ids"][:512]])
    text = tokenizer.decode(ids[0])

    def once() -> None:
        with torch.inference_mode():
            told = tokenizer(text, return_tensors="pt")["input_ids"]
            scores = model(input_ids=told, use_cache=False).logits[0, :-1]
            scores.log_softmax(-1).gather(1, told[0, 1:, None])

    def both() -> None:
        read_texts(model, tokenizer, steer, [text])

    times: dict[str, list[float]] = {"pass": [], "spans and value": []}
    for repeat in range(args.repeats + 2):
        for name, call in (("pass", once), ("spans and value", both)):
            began = time.perf_counter()
            call()
            if repeat >= 2:  # the first ones warm up
                times[name].append(time.perf_counter() - began)
    ratios = [b / a for a, b in zip(*times.values(), strict=True)]
    print({k: f"{1000 * statistics.median(v):.1f} ms" for k, v in times.items()})
    print(f"paired median ratio {statistics.median(ratios):.2f}, {ids.shape[1]} tokens")
