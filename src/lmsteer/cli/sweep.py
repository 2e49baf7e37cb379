"""`lmsteer sweep`: style and fluency against the strength of one steer."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ..steer import strength_texts
from .display import escape, hush_transformers, out, print_json
from .measured import measured, span


def sweep(
    steer: Annotated[str, typer.Option(help="a folder, a shipped steer or a Hub id")],
    low: Annotated[float, typer.Option("--from", help="lowest strength")] = -5.0,
    high: Annotated[float, typer.Option("--to", help="highest strength")] = 5.0,
    steps: Annotated[int, typer.Option(help="how many strengths")] = 11,
    model: Annotated[str, typer.Option(help="bundled, a local folder or a Hub id")] = "bundled",
    prompts: Annotated[
        str, typer.Option(help="file of prompts, or bundled:neutral")
    ] = "bundled:neutral",
    count: Annotated[int, typer.Option(help="how many of the prompts, from the first")] = 50,
    samples: Annotated[int, typer.Option(help="continuations of each prompt")] = 4,
    tokens: Annotated[int, typer.Option(help="length of each, in tokens")] = 20,
    top_p: Annotated[float, typer.Option(help="nucleus sampling")] = 0.9,
    nucleus: Annotated[
        str, typer.Option(help="whose likeliest tokens are kept: steered, or base (more fluent)")
    ] = "steered",
    scorer: Annotated[
        list[str] | None,
        typer.Option(
            help="sentiment, toxicity, vader, a .safetensors file, module:callable or a Hub "
            "classifier; may be repeated  [default: sentiment]"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="another seed, other samples")] = 0,
    figure: Annotated[
        Path | None, typer.Option(help="draw it to this file (PNG, PDF, SVG)")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cuda, mps, cpu or auto")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16, float16 or auto")] = None,
    json_: Annotated[bool, typer.Option("--json", help="print everything as JSON")] = False,
) -> None:
    """Measure style and fluency over a range of strengths, and show text at each.

    Example: lmsteer sweep --steer sentiment --from -5 --to 5 --steps 11 --figure sweep.png
    """
    from ..figures import strength_figure
    from ..metrics import load_scorer, masked
    from ..model import load_model
    from ..storage import load_steer
    from ..text import read_prompts

    strengths = span(low, high, steps, "a sweep")
    scorers = {name: load_scorer(name) for name in scorer or ["sentiment"]}
    worst = any("toxic" in name for name in scorers)
    hush_transformers()
    network, tokenizer = load_model(model, device=device, dtype=dtype)
    found = load_steer(steer, network)
    written = measured(
        network,
        tokenizer,
        read_prompts(prompts)[:count],
        [{found: strength} for strength in strengths],
        scorers,
        worst=worst,
        quiet=json_,
        tokens=tokens,
        samples=samples,
        top_p=top_p,
        nucleus=nucleus,
        seed=seed,
    )
    parts, rows = [part for part, _ in written], [row for _, row in written]
    shown = [*scorers, "perplexity", "distinct_2"]
    if figure is not None:
        title = f"{found.name} on {Path(model).name}: {len(parts[0])} texts a strength"
        strength_figure(figure, strengths, rows, shown, title)
    if json_:
        listed = [
            {
                "strength": strength,
                "texts": len(part),
                "text": part[0].prompt + part[0].text,
                **{name: asdict(value) for name, value in row.items()},
            }
            for strength, part, row in zip(strengths, parts, rows, strict=True)
        ]
        print_json({"steer": found.name, "seed": seed, "rows": listed})
        return
    table = Table("strength", *map(escape, shown), "the first text")
    for strength, part, row in zip(strength_texts(strengths), parts, rows, strict=True):
        text = " ".join((part[0].prompt + part[0].text).split())
        figures = (str(row[name]) for name in shown)
        table.add_row(strength, *figures, escape(masked(text)))
    out.print(table)
    out.print(
        f"{len(parts[0])} texts a strength; {escape(', '.join(scorers))}: share scored above 0; "
        "perplexity "
        "under the unsteered model; [95% intervals]"
    )
    if figure is not None:
        out.print(f"figure: {escape(str(figure))}")
