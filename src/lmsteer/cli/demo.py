"""`lmsteer demo`: the whole story on the bundled model, with no network and no other file."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Any

from rich.table import Table

from .display import err, escape, out, print_json, progress_bars
from .opening import open_model
from .options import MODEL, Device, Dtype, Force, Json, Model, Out

FOLDER = Path("lmsteer-demo/sentiment")
SHOWN = ("The film was", "My life is", "The food at the restaurant", "I think that")
STRENGTHS = (-3.0, 0.0, 3.0)


def demo(
    out_folder: Out = FOLDER,
    model: Model = MODEL,
    device: Device = None,
    dtype: Dtype = None,
    force: Force = False,
    json_: Json = False,
) -> None:
    """Train a sentiment steer, write at strengths -3, 0 and 3, and measure the difference.

    Nothing is needed but the package. The steer is saved to lmsteer-demo/sentiment where --out
    names no other folder.

    Example: lmsteer demo
    """
    from ..generation import by_mix, generate
    from ..metrics import masked
    from ..recipes import train
    from ..steer import read_provenance
    from ..storage import check_writable, measured
    from ..text import read_examples, read_prompts

    force = force or out_folder == FOLDER  # what the demo made before it may make again
    check_writable(out_folder, force=force)
    begun = time.perf_counter()
    network, tokenizer = open_model(model, device=device, dtype=dtype)
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
        shown = generate(network, tokenizer, SHOWN, **options)
        # No fewer tokens than 24: a text that ends at once says nothing about style.
        records = generate(
            network,
            tokenizer,
            read_prompts("bundled:neutral")[:50],
            samples=2,
            min_new_tokens=24,
            **options,
        )
    rows = [
        _effect(network, tokenizer, strength, part)
        for strength, part in zip(STRENGTHS, by_mix(records, len(STRENGTHS)), strict=True)
    ]
    steer.save(out_folder, force=force)
    if json_:
        told = {"out": str(out_folder), "effect": rows, "record": dict(steer.record)}
        print_json({**measured(steer), **told})
        return
    seconds = read_provenance(steer.record).seconds
    out.print(
        f"\nA steer learned from {len(examples)} labelled sentences, the model frozen, in "
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
    place = escape(shlex.quote(str(out_folder)))
    out.print(
        f"\nSaved to {place} ({time.perf_counter() - begun:.0f} s in all). Type next:\n"
        f"  lmsteer generate {place}=-2,0,2 --prompt 'The weather'\n"
        f"  lmsteer show {place}\n"
        "  lmsteer train your.csv --label stars --scale 1 5 --model gpt2 --out mine"
    )
    err.print(
        "The bundled model is tiny: it shows the mechanism. Steer a larger model for real text."
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
