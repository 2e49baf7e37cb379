"""`lmsteer sweep`: style and fluency against the strength of one steer."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from ..steer import strength_texts
from .display import escape, out, print_json
from .measured import measured, strengths_alone
from .opening import open_model
from .options import (
    MODEL,
    NEUTRAL,
    SEED,
    TOP_P,
    BatchSize,
    Count,
    Device,
    Dtype,
    Figure,
    High,
    Json,
    Low,
    Measured,
    Model,
    Nucleus,
    Points,
    Prompts,
    Samples,
    Scorers,
    Seed,
    Tokens,
    TopP,
)
from .prompts import read_files
from .steers import read_mix

if TYPE_CHECKING:
    from ..generation import Generation
    from ..metrics import Estimate


def sweep(
    steer: Measured,
    low: Low = None,
    high: High = None,
    points: Points = None,
    model: Model = MODEL,
    prompts: Prompts = None,
    count: Count = 50,
    samples: Samples = 4,
    tokens: Tokens = 20,
    top_p: TopP = TOP_P,
    nucleus: Nucleus = "steered",
    scorer: Scorers = None,
    seed: Seed = SEED,
    batch_size: BatchSize = 64,
    figure: Figure = None,
    device: Device = None,
    dtype: Dtype = None,
    json_: Json = False,
) -> None:
    """Measure style and fluency over a range of strengths, and show a text at each.

    NAME alone is measured at 11 points from -5 to 5. The prompts are the neutral ones of the
    package where --prompts gives no others, and each text has exactly --tokens tokens.

    Example: lmsteer sweep sentiment --from -3 --to 3 --points 7 --count 20 --figure sweep.png
    """
    from ..figures import strength_figure
    from ..metrics import HARMS, load_scorer

    usual = (-5.0, 5.0, 11)
    alone = strengths_alone([steer], "a sweep", low=low, high=high, points=points, usual=usual)
    scorers = {name: load_scorer(name) for name in scorer or ["sentiment"]}
    network, tokenizer = open_model(model, device=device, dtype=dtype)
    ((found, strengths),) = read_mix([steer], network, alone=alone)
    written = measured(
        network,
        tokenizer,
        read_files(prompts or [NEUTRAL], count),
        [{found: strength} for strength in strengths],
        scorers,
        worst=not HARMS.isdisjoint(scorers),
        quiet=json_,
        tokens=tokens,
        samples=samples,
        top_p=top_p,
        nucleus=nucleus,
        seed=seed,
        batch_size=batch_size,
    )
    shown = [*scorers, "perplexity", "distinct_2"]
    if figure is not None:
        title = f"{found.name} on {Path(model).name}: {len(written[0][0])} texts per strength"
        strength_figure(figure, strengths, [row for _, row in written], shown, title)
    if json_:
        listed = [
            {
                "strength": strength,
                "texts": len(part),
                "text": part[0].prompt + part[0].text,
                **{name: asdict(value) for name, value in row.items()},
            }
            for strength, (part, row) in zip(strengths, written, strict=True)
        ]
        print_json({"steer": found.name, "seed": seed, "rows": listed})
        return
    _show(strengths, written, shown, list(scorers))
    if figure is not None:
        out.print(f"figure: {escape(str(figure))}")


def _show(
    strengths: list[float],
    written: list[tuple[list[Generation], dict[str, Estimate]]],
    shown: list[str],
    scorers: list[str],
) -> None:
    from ..metrics import masked

    table = Table("strength", *map(escape, shown), "the first text")
    for strength, (part, row) in zip(strength_texts(strengths), written, strict=True):
        text = " ".join((part[0].prompt + part[0].text).split())
        figures = (str(row[name]) for name in shown)
        table.add_row(strength, *figures, escape(masked(text)))
    out.print(table)
    out.print(
        f"{len(written[0][0])} texts per strength; {escape(', '.join(scorers))}: the share of "
        "texts scored above 0; perplexity under the unsteered model; 95% intervals in brackets"
    )
