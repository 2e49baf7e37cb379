"""What a strength costs: given text, grammar, linearity, and two steers at once, at either site.

python -m experiments.input_vs_output.stability --data ../shared/data --work WORK

- `perplexity`: of 30 paragraphs of WikiText-2 under the steered model, relative to strength 0.
- `cola`: AUC of the mean log-probability a token on CoLA's in-domain dev set.
- `agreement`: share of pairs ("The keys near the door are / is old.") whose right form is likelier.
- `bend`: how far effects are from linear: the log-probabilities of 60 sentences' tokens at
  strength 2s, less twice the change at s, relative to the change at 2s (root of mean squares).
- `together`: the change under two steers at once, less the sum of their own changes, likewise.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import lmsteer
from experiments.input_vs_output.setting import arguments, keep, steered, steers
from lmsteer.metrics.sentences import acceptability, text_losses, text_perplexity
from lmsteer.steer.calibration import StrengthWarning

SIZES = (0.0, 1.0, 2.0, 4.0)
SINGULAR = "key door boy woman dog teacher film actor house letter".split()
PLACES = ("near the {}", "behind the {}", "that I saw with the {}")
VERBS = (("is", "are"), ("was", "were"), ("has", "have"))
REST = {
    "is": "old.",
    "are": "old.",
    "was": "here.",
    "were": "here.",
    "has": "a name.",
    "have": "a name.",
}


def agreement_pairs() -> list[tuple[str, str]]:
    """Right and wrong: a subject, a noun of the other number between, and a verb."""
    pairs = []
    for (noun, other), place, (one, many) in itertools.product(
        itertools.pairwise(SINGULAR), PLACES, VERBS
    ):
        for subject, between, right, wrong in (
            (noun, _plural(other), one, many),
            (_plural(noun), other, many, one),
        ):
            start = f"The {subject} {place.format(between)}"
            pairs.append((f"{start} {right} {REST[right]}", f"{start} {wrong} {REST[right]}"))
    return pairs


def _plural(noun: str) -> str:
    return {"woman": "women"}.get(noun, f"{noun}s")


def cola(folder: Path) -> tuple[list[str], list[bool]]:
    """The in-domain dev set: sentences and whether they are acceptable."""
    with (folder / "in_domain_dev.tsv").open(encoding="utf-8", newline="") as file:
        found = [
            (row[3], row[1] == "1")
            for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        ]
    return [text for text, _ in found], [good for _, good in found]


def main() -> None:
    """Run from the command line."""
    args = arguments(__doc__)
    warnings.simplefilter("ignore", StrengthWarning)
    model, tokenizer = lmsteer.load_model("bundled")
    sentences, good = cola(args.data / "cola")
    pairs = agreement_pairs()
    wiki = (args.data / "wikitext2").glob("*valid*")
    paragraphs = [
        line.strip()
        for line in next(iter(wiki)).read_text(encoding="utf-8").splitlines()
        if len(line.split()) > 60
    ][:30]
    few = [s for s, g in zip(sentences, good, strict=True) if g][:60]

    def effects(mix: dict[Any, float]) -> np.ndarray:
        with contextlib.ExitStack() as stack:
            for steer, strength in mix.items():
                stack.enter_context(steered(model, steer, strength))
            return -np.concatenate(text_losses(model, tokenizer, few))

    found = steers(
        args.work, model, ["sentiment", "in", "subjectivity", "in-subjectivity", "in-reading"]
    )
    plain = effects({})
    result: dict[str, Any] = {}
    for name in ("sentiment", "in", "in-reading"):
        steer, rows = found[name], {}
        changes = {
            s: effects({steer: s}) - plain for s in sorted({*SIZES, *(2 * s for s in SIZES)})
        }
        base = None
        for size in SIZES:
            for strength in sorted({size, -size}):
                with steered(model, steer, strength):
                    right = text_losses(model, tokenizer, [a for a, _ in pairs])
                    wrong = text_losses(model, tokenizer, [b for _, b in pairs])
                    cost = text_perplexity(model, tokenizer, paragraphs).value
                    auc = acceptability(model, tokenizer, sentences, good)
                base = base or cost
                rows[f"{strength:+g}"] = {
                    "perplexity": cost / base,
                    "cola": auc.value,
                    "cola_low": auc.low,
                    "cola_high": auc.high,
                    "agreement": float(
                        np.mean([a.sum() < b.sum() for a, b in zip(right, wrong, strict=True)])
                    ),
                    "change": _size(changes[size]),
                    "bend": _size(changes[2 * size] - 2 * changes[size])
                    / max(1e-12, _size(changes[2 * size])),
                }
                print(name, strength, rows[f"{strength:+g}"], flush=True)
        result[name] = rows
    together = {}
    for one, other in (("sentiment", "subjectivity"), ("in", "in-subjectivity")):
        together[one] = {}
        for s in (0.5, 1.0, 2.0, 3.0):
            both = effects({found[one]: s, found[other]: s}) - plain
            alone = [effects({found[n]: s}) - plain for n in (one, other)]
            together[one][f"{s:g}"] = _size(both - sum(alone)) / _size(both)
        print("together", one, together[one], flush=True)
    keep("stability", {"steers": result, "together": together}, pairs=len(pairs))


def _size(x: np.ndarray) -> float:
    return float(np.sqrt((x**2).mean()))


if __name__ == "__main__":
    main()
