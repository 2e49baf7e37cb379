"""`lmsteer calibrate`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ..steer import Calibration, strength_texts
from .display import hush_transformers, out, print_json, progress_bars


def calibrate(
    steer: Annotated[Path, typer.Argument(help="folder of a steer; the table is kept in it")],
    model: Annotated[str, typer.Option(help="bundled, a local folder or a Hub id")] = "bundled",
    prompts: Annotated[str | None, typer.Option(help="file of prompts")] = None,
    samples: Annotated[int, typer.Option(help="texts for each prompt and strength")] = 4,
    tokens: Annotated[int, typer.Option(help="length of each, in tokens")] = 20,
    seed: Annotated[int, typer.Option(help="another seed, other samples")] = 0,
    device: Annotated[str | None, typer.Option(help="cuda, mps, cpu or auto")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16, float16 or auto")] = None,
    json_: Annotated[bool, typer.Option("--json", help="print the table as JSON")] = False,
) -> None:
    """Measure what each strength costs, and find the range in which text stays fluent.

    Afterwards strengths can be given as +auto, 80% or kl:0.5.
    """
    from ..model import load_model
    from ..recipes import calibrate as measure
    from ..storage import load_steer
    from ..text import read_prompts
    from .strengths import tell_prompts

    hush_transformers()
    network, tokenizer = load_model(model, device=device, dtype=dtype)
    found = load_steer(steer, network)
    tell_prompts([found])
    with progress_bars(quiet=json_) as progress:
        found = measure(
            network,
            tokenizer,
            found,
            prompts=read_prompts(prompts) if prompts else None,
            samples=samples,
            max_new_tokens=tokens,
            seed=seed,
            progress=progress,
        )
    found.save(steer, force=True)
    assert found.calibration is not None
    if json_:
        print_json(asdict(found.calibration))
        return
    describe_calibration(found.calibration)


def describe_calibration(calibration: Calibration) -> None:
    """Print the table, and the safe range in a sentence."""
    shown = Table("strength", "KL, nats per token", "perplexity", "distinct-2")
    texts = strength_texts([row.strength for row in calibration.rows])
    for row, strength in zip(calibration.rows, texts, strict=True):
        shown.add_row(
            strength,
            f"{row.kl:.4f}",
            f"{row.perplexity:.3g} [{row.perplexity_low:.3g}, {row.perplexity_high:.3g}]",
            f"{row.distinct_2:.3g} [{row.distinct_2_low:.3g}, {row.distinct_2_high:.3g}]",
        )
    out.print(shown)
    low, high = calibration.safe
    out.print(
        f"safe range {low:+.2f} to {high:+.2f}: perplexity up to 1.5 times, distinct-2 at least "
        "0.9 times that of unsteered text"
    )
