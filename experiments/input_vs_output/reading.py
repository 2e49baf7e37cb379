"""How a fixed text is read: P(good words) - P(bad words) after "<a review> Overall it was".

python -m experiments.input_vs_output.reading --data ../shared/data --work WORK

240 sentences of SST dev (120 of each side). A shift is in standard deviations of the unsteered
readings. Two costs of the same strength, both relative to strength 0:

- `written`: perplexity, under the unsteered model, of text written from the same prompts (2 samples
  of 20 tokens each, top-p 0.9);
- `given`: perplexity, under the steered model, of the second halves of 60 paragraphs of WikiText-2
  after the first; prompt-only steers act on the first half alone.

The same for what was said by toxic and other prompts ("What he said was").
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

import lmsteer
from experiments.input_vs_output.setting import (
    STRENGTHS,
    arguments,
    at_ratios,
    keep,
    steered,
    steers,
    where,
)
from experiments.shared.text import clean, rows, toxicity_prompts
from lmsteer.generation.records import by_mix
from lmsteer.metrics.fluency import perplexity
from lmsteer.steer.calibration import StrengthWarning
from lmsteer.text.batch import padded
from lmsteer.text.encoding import prompt_ids

RUDE = "rude mean cruel nasty ugly disgusting wrong offensive stupid horrible awful".split()
KIND = "kind nice polite fine fair good lovely friendly right wonderful sweet".split()


def lexicon(path: Path) -> list[str]:
    """The words of one of the opinion lexicon's files."""
    lines = path.read_text(encoding="latin-1").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith(";")]


def single(tokenizer: Any, words: Sequence[str]) -> list[int]:
    """Ids of the words that are one token after a space."""
    ids = tokenizer([f" {word}" for word in words], add_special_tokens=False)["input_ids"]
    return sorted({row[0] for row in ids if len(row) == 1})


@torch.no_grad()
def readings(
    model: Any, tokenizer: Any, prompts: Sequence[str], good: list[int], bad: list[int]
) -> np.ndarray:
    """``(prompts,)`` of P(good) - P(bad) for the next token, by the model as it is."""
    found = []
    for begin in range(0, len(prompts), 60):
        ids, mask = padded(prompt_ids(tokenizer, prompts[begin : begin + 60]), 0)
        scores = model(input_ids=ids, attention_mask=mask).logits
        last = scores[torch.arange(len(ids)), mask.sum(1) - 1].float().softmax(-1)
        found.append(last[:, good].sum(-1) - last[:, bad].sum(-1))
    return torch.cat(found).double().numpy()


def review_prompts(data: Path, each: int = 120) -> tuple[list[str], list[int]]:
    """Sentences of SST dev with the frame, and whether each is positive."""
    found: list[tuple[str, int]] = []
    for row in rows(data / "sst/sst_dev.jsonl"):
        text = clean(row["text"])
        if row["label5"] != 2 and 6 <= len(text.split()) <= 25:
            found.append((f"{text} Overall it was", int(row["label5"] > 2)))
    chosen = [f for f in found if f[1]][:each] + [f for f in found if not f[1]][:each]
    return [text for text, _ in chosen], [label for _, label in chosen]


def framed_prompts(data: Path, each: int = 100) -> tuple[list[str], list[int]]:
    """Harmless and toxic prompts, with the frame."""
    harmless, toxic = (side[:each] for side in toxicity_prompts(data))
    framed = [f"{text.strip()}. What he said was" for text in (*harmless, *toxic)]
    return framed, [0] * len(harmless) + [1] * len(toxic)


@torch.no_grad()
def given_nll(
    model: Any,
    tokenizer: Any,
    halves: list[tuple[str, str]],
    steer: lmsteer.Steer | None = None,
    strength: float = 0.0,
    *,
    prompt_only: bool = False,
) -> float:
    """Mean NLL of a token of the second halves; by the model as it is where no steer is given."""
    total, count = 0.0, 0
    for first, second in halves:
        (start,), (end,) = prompt_ids(tokenizer, [first]), prompt_ids(tokenizer, [second])
        ids = torch.tensor([start + end])
        position = torch.arange(ids.shape[1])[None]
        mask = position < (len(start) if prompt_only else ids.shape[1])
        acting: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if steer is not None:
            acting = steered(model, steer, strength, where=mask)
        with acting:
            scores = model(input_ids=ids).logits[0, len(start) - 1 : -1].float()
        total += float(
            torch.nn.functional.cross_entropy(scores, ids[0, len(start) :], reduction="sum")
        )
        count += len(end)
    return total / count


def paragraphs(data: Path, count: int = 60) -> list[tuple[str, str]]:
    """Paragraphs of WikiText-2 in two halves of at most 60 words each."""
    found = []
    for line in (data / "wikitext2/valid.txt").read_text(encoding="utf-8").splitlines():
        words = clean(line).split(" ")[:120]
        if len(words) >= 60:
            half = len(words) // 2
            found.append((" ".join(words[:half]), " " + " ".join(words[half:])))
    return found[:count]


def curve(
    model: Any,
    tokenizer: Any,
    name: str,
    steer: lmsteer.Steer,
    prompts: tuple[list[str], list[int]],
    words: tuple[list[int], list[int]],
    halves: list[tuple[str, str]],
) -> dict[str, Any]:
    """Shift, costs and how well the reading follows the label, at each strength."""
    texts, labels = prompts
    records = lmsteer.generate(
        model,
        tokenizer,
        texts,
        strengths=[{steer: s} for s in STRENGTHS],
        samples=2,
        max_new_tokens=20,
        top_p=0.9,
        batch_size=128,
        where=where(name),
    )
    base = readings(model, tokenizer, texts, *words)
    found: dict[float, dict[str, Any]] = {}
    for strength, part in zip(STRENGTHS, by_mix(records, len(STRENGTHS)), strict=True):
        with steered(model, steer, strength):
            read = readings(model, tokenizer, texts, *words)
        shifts = (read - base) / base.std()
        error = 1.96 * shifts.std() / len(shifts) ** 0.5
        found[strength] = {
            "shift": float(shifts.mean()),
            "low": float(shifts.mean() - error),
            "high": float(shifts.mean() + error),
            "auc": float(roc_auc_score(labels, read)),
            "written": perplexity(model, tokenizer, part).value,
            "given": float(
                np.exp(
                    given_nll(
                        model,
                        tokenizer,
                        halves,
                        steer,
                        strength,
                        prompt_only=where(name) == "prompt",
                    )
                )
            ),
        }
    equal: dict[str, Any] = {}
    for cost in ("written", "given"):
        plain = found[0.0][cost]
        for row in found.values():
            row[cost] = row[cost] / plain
        costs = {s: (row["shift"], row[cost]) for s, row in found.items()}
        equal[cost] = at_ratios(costs)
    print(name, json.dumps(equal), flush=True)
    return {"strengths": {f"{s:+g}": row for s, row in found.items()}, "at_ratio": equal}


def main() -> None:
    """Run from the command line."""
    args = arguments(__doc__)
    warnings.simplefilter("ignore", StrengthWarning)
    model, tokenizer = lmsteer.load_model("bundled")
    good = single(tokenizer, lexicon(args.data / "lexicons/positive-words.txt"))
    bad = single(tokenizer, lexicon(args.data / "lexicons/negative-words.txt"))
    prompts, halves = review_prompts(args.data), paragraphs(args.data)
    names = ["sentiment", "out-reading", "in", "in-halves", "in-reading"]
    result: dict[str, Any] = {"review": {}, "toxicity": {}}
    for name, steer in steers(args.work, model, names).items():
        result["review"][name] = curve(model, tokenizer, name, steer, prompts, (good, bad), halves)
    kind, rude = single(tokenizer, KIND), single(tokenizer, RUDE)
    said = framed_prompts(args.data)
    for name, steer in steers(args.work, model, ["detox", "in-detox"]).items():
        result["toxicity"][name] = curve(model, tokenizer, name, steer, said, (kind, rude), halves)
    keep("reading", result, words=f"{len(good)} good, {len(bad)} bad", prompts=len(prompts[0]))


if __name__ == "__main__":
    main()
