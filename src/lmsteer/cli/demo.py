"""`lmsteer demo`: the whole story on the bundled model, with no network and no other file."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from .display import err, escape, hush_transformers, out, print_json, progress_bars

FOLDER = Path("lmsteer-demo/sentiment")
SHOWN = ("The film was", "My life is", "The food at the restaurant", "I think that")
STRENGTHS = (-3.0, 0.0, 3.0)


def demo(
    out_folder: Annotated[Path, typer.Option("--out", help="where to save the steer")] = FOLDER,
    model: Annotated[str, typer.Option(help="bundled, a local folder or a Hub id")] = "bundled",
    force: Annotated[bool, typer.Option(help="replace a steer that is already there")] = False,
    json_: Annotated[
        bool, typer.Option("--json", help="print the measured effect as JSON")
    ] = False,
) -> None:
    """Train a sentiment steer, write at strengths -3, 0 and 3, and measure the difference."""
    from ..generation import by_mix, generate
    from ..metrics import masked
    from ..model import load_model
    from ..recipes import train
    from ..steer import read_provenance
    from ..storage import check_writable, measured
    from ..text import read_examples, read_prompts

    force = force or out_folder == FOLDER  # what the demo made before it may make again
    check_writable(out_folder, force=force)
    begun = time.perf_counter()
    hush_transformers()
    network, tokenizer = load_model(model)
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
        title=f"{rows[0]['texts']} continuations of neutral prompts a strength [95% interval]",
    )
    for row in rows:
        effect.add_row(f"{row['strength']:+g}", row["positive_text"], row["perplexity_text"])
    out.print(effect)
    place = escape(shlex.quote(str(out_folder)))
    out.print(
        f"\nSaved to {place} ({time.perf_counter() - begun:.0f} s in all). Type next:\n"
        f"  lmsteer generate --steer {place}=-2,0,2 --prompt 'The weather'\n"
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
