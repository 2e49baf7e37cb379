"""`lmsteer grid`: two steers at every pair of strengths."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ..errors import InputError
from ..steer import labels, strength_texts
from .display import escape, hush_transformers, out, print_json
from .measured import measured, span
from .strengths import check_different


def grid(
    steer: Annotated[list[str], typer.Option(help="two of them: folders, shipped steers, Hub ids")],
    low: Annotated[float, typer.Option("--from", help="lowest strength")] = -2.0,
    high: Annotated[float, typer.Option("--to", help="highest strength")] = 2.0,
    steps: Annotated[int, typer.Option(help="strengths of each")] = 5,
    model: Annotated[str, typer.Option(help="bundled, a local folder or a Hub id")] = "bundled",
    prompts: Annotated[
        str, typer.Option(help="file of prompts, or bundled:neutral")
    ] = "bundled:neutral",
    count: Annotated[int, typer.Option(help="how many of the prompts, from the first")] = 50,
    samples: Annotated[int, typer.Option(help="continuations of each prompt")] = 2,
    tokens: Annotated[int, typer.Option(help="length of each, in tokens")] = 20,
    top_p: Annotated[float, typer.Option(help="nucleus sampling")] = 0.9,
    nucleus: Annotated[
        str, typer.Option(help="whose likeliest tokens are kept: steered, or base (more fluent)")
    ] = "steered",
    scorer: Annotated[
        list[str] | None, typer.Option(help="as in sweep; one for each steer tells most")
    ] = None,
    seed: Annotated[int, typer.Option(help="another seed, other samples")] = 0,
    figure: Annotated[
        Path | None, typer.Option(help="draw it to this file (PNG, PDF, SVG)")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cuda, mps, cpu or auto")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16, float16 or auto")] = None,
    json_: Annotated[bool, typer.Option("--json", help="print everything as JSON")] = False,
) -> None:
    """Mix two steers at every pair of strengths: does each still do its own work?

    Example: lmsteer grid --steer sentiment --steer toxicity --scorer sentiment --scorer toxicity
    """
    from ..figures import grid_figure
    from ..metrics import load_scorer
    from ..model import load_model
    from ..steer import interference
    from ..storage import load_steer
    from ..text import read_prompts

    if len(steer) != 2:
        raise InputError(f"a grid is of two steers: give --steer twice, was: {steer}")
    strengths = span(low, high, steps, "a grid")
    scorers = {name: load_scorer(name) for name in scorer or ["sentiment"]}
    hush_transformers()
    network, tokenizer = load_model(model, device=device, dtype=dtype)
    one, other = (load_steer(name, network) for name in steer)
    check_different(steer, [one, other])
    names = labels([one, other])
    pairs = [(a, b) for b in strengths for a in strengths]
    found = measured(
        network,
        tokenizer,
        read_prompts(prompts)[:count],
        [{one: a, other: b} for a, b in pairs],
        scorers,
        worst=False,
        quiet=json_,
        tokens=tokens,
        samples=samples,
        top_p=top_p,
        nucleus=nucleus,
        seed=seed,
    )
    measures = [row for _, row in found]
    lines = [measures[start : start + steps] for start in range(0, len(measures), steps)]
    shown = [*scorers, "perplexity"]
    if figure is not None:
        grid_figure(figure, (names[one], names[other]), strengths, lines, shown)
    cosine = interference(one, other)
    if json_:
        listed = [
            {
                "strengths": {names[one]: a, names[other]: b},
                **{k: asdict(v) for k, v in row.items()},
            }
            for (a, b), row in zip(pairs, measures, strict=True)
        ]
        print_json({"seed": seed, "cosine": cosine, "rows": listed})
        return
    texts = strength_texts(strengths)
    for name in shown:
        corner = f"{escape(names[other])} \\ {escape(names[one])}"
        table = Table(corner, *texts, title=escape(name))
        for text, line in zip(reversed(texts), reversed(lines), strict=True):
            table.add_row(text, *(f"{row[name].value:.3g}" for row in line))
        out.print(table)
    out.print(f"cosine of the maps: {cosine:+.3f}; {len(found[0][0])} texts a pair")
    if figure is not None:
        out.print(f"figure: {escape(str(figure))}")
