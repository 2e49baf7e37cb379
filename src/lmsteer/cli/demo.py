"""`lmsteer demo`: the whole story in minutes, on a real model where one is here; no network."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Any

from rich.table import Table

from ..model import KNOWN, whereabouts
from ..steer import read_provenance
from ..storage import measured
from .display import err, escape, out, print_json, progress_bars
from .opening import open_model
from .options import MODEL, Device, Dtype, Force, Json, OptionalModel, Out

FOLDER = Path("lmsteer-demo/sentiment")
SHOWN = ("The film was", "My life is", "The food at the restaurant", "I think that")
STRENGTHS = (-5.0, 0.0, 5.0)
REAL = "smollm2"
MOST_PROMPTS, FEWEST_PROMPTS, SAMPLES = 50, 10, 2
BUDGET = 210.0
"""Seconds that the demo may take. The last part, measuring, takes as many texts as fit into it."""
_SHARE_OF_WRITING = 0.6
"""The share of measuring that writing the texts takes; the rest is their perplexity."""


def demo(
    out_folder: Out = FOLDER,
    model: OptionalModel = None,
    device: Device = None,
    dtype: Dtype = None,
    force: Force = False,
    json_: Json = False,
) -> None:
    """Train a sentiment steer, write at strengths -5, 0 and +5, and measure the difference.

    Without --model it runs on smollm2 where that is installed, and on the bundled model otherwise;
    nothing else is needed. It takes at most four minutes on two cores. The steer is saved to
    lmsteer-demo/sentiment where --out names no other folder.

    Example: lmsteer demo
    """
    from ..generation import by_mix, generate
    from ..recipes import train
    from ..storage import check_writable
    from ..text import read_examples, read_prompts

    force = force or out_folder == FOLDER  # what the demo made before it may make again
    check_writable(out_folder, force=force)
    begun = time.perf_counter()
    name = model or (REAL if whereabouts(KNOWN[REAL]) else MODEL)
    if not json_ and name == REAL:
        err.print(f"on {KNOWN[REAL].hub}; it takes a few minutes on two cores")
    network, tokenizer = open_model(name, device=device, dtype=dtype)
    examples = read_examples("bundled:sentiment")
    with progress_bars(quiet=json_) as progress:
        steer = train(network, tokenizer, examples, name="sentiment", progress=progress)
        options: dict[str, Any] = {
            "strengths": [{steer: s} for s in STRENGTHS],
            "max_new_tokens": 24,
            "top_p": 0.9,
            "seed": 0,
            "progress": progress,
        }
        started = time.perf_counter()
        shown = generate(network, tokenizer, SHOWN, **options)
        now = time.perf_counter()
        prompts = read_prompts("bundled:neutral")
        count = _fitting(BUDGET - (now - begun), (now - started) / len(shown))
        # No fewer tokens than 24: a text that ends at once says nothing about style.
        records = generate(
            network,
            tokenizer,
            prompts[:count],
            samples=SAMPLES,
            min_new_tokens=24,
            **options,
        )
    rows = [
        _effect(network, tokenizer, strength, part)
        for strength, part in zip(STRENGTHS, by_mix(records, len(STRENGTHS)), strict=True)
    ]
    steer.save(out_folder, force=force)
    if json_:
        told = {"model": name, "out": str(out_folder), "effect": rows}
        print_json({**measured(steer), **told, "record": dict(steer.record)})
        return
    _show(steer, len(examples), shown, rows)
    _next_steps(name, out_folder, time.perf_counter() - begun)


def _fitting(left: float, each: float) -> int:
    """How many prompts can be measured in the seconds left.

    Args:
        left: The seconds that are left.
        each: The seconds that it took to write one text, in a batch of few.
    """
    texts = left * _SHARE_OF_WRITING / max(each, 1e-9)
    most = int(texts / (len(STRENGTHS) * SAMPLES))
    return min(MOST_PROMPTS, max(FEWEST_PROMPTS, most))


def _show(steer: Any, count: int, shown: list[Any], rows: list[dict[str, Any]]) -> None:
    from ..metrics import masked

    seconds = read_provenance(steer.record).seconds
    base = escape(steer.fingerprint.model)
    out.print(
        f"\nA steer learned from {count} labelled sentences, {base} frozen, in "
        f"{seconds:.1f} s. The same prompts at three strengths:\n"
    )
    table = Table(*(f"strength {s:+g}" for s in STRENGTHS), show_lines=True)
    for start in range(0, len(shown), len(STRENGTHS)):
        table.add_row(
            *(
                f"[dim]{escape(r.prompt)}[/]{escape(masked(r.text), lines=True)}"
                for r in shown[start : start + len(STRENGTHS)]
            )
        )
    out.print(table)
    effect = Table(
        "strength",
        "positive by a word list (VADER)",
        "perplexity, unsteered model",
        title=f"{rows[0]['texts']} continuations of neutral prompts per strength [95% interval]",
    )
    for row in rows:
        effect.add_row(f"{row['strength']:+g}", row["positive_text"], row["perplexity_text"])
    out.print(effect)


def _next_steps(name: str, folder: Path, seconds: float) -> None:
    place = escape(shlex.quote(str(folder)))
    on = "" if name == MODEL else f" --model {escape(shlex.quote(name))}"
    out.print(
        f"\nSaved to {place} ({seconds:.0f} s in all). Type next:\n"
        f"  lmsteer generate {place}=-4,0,4{on} --prompt 'The weather'\n"
        f"  lmsteer show {place}\n"
        f"  lmsteer train your.csv --label stars --scale 1 5{on or ' --model gpt2'} --out mine",
        soft_wrap=True,
    )
    if name == MODEL:
        real = KNOWN[REAL]
        err.print(
            f"The bundled model is tiny: it shows the mechanism. For real text, bring "
            f"{real.hub} ({real.megabytes} MB) and run the demo again:\n  {real.command}",
            soft_wrap=True,
        )


def _effect(network: Any, tokenizer: Any, strength: float, records: list[Any]) -> dict[str, Any]:
    from ..metrics import lexicon_scores, perplexity, positive_rate

    positive = positive_rate(records, lexicon_scores([r.text for r in records]))
    fluency = perplexity(network, tokenizer, records)
    return {
        "strength": strength,
        "texts": len(records),
        "positive": positive.value,
        "positive_text": f"{positive.value:.0%} [{positive.low:.0%}, {positive.high:.0%}]",
        "perplexity": fluency.value,
        "perplexity_text": f"{fluency.value:.1f} [{fluency.low:.1f}, {fluency.high:.1f}]",
    }
