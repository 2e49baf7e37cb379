"""`lmsteer grid`: two steers at every pair of strengths."""

from __future__ import annotations

from dataclasses import asdict

from rich.table import Table

from ..steer import labels, strength_texts
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


def grid(
    steer: Measured,
    other_steer: Measured,
    low: Low = None,
    high: High = None,
    points: Points = None,
    model: Model = MODEL,
    prompts: Prompts = None,
    count: Count = 50,
    samples: Samples = 2,
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
    """Mix two steers at every pair of strengths: does each still do its own work?

    NAME alone is measured at 5 points from -2 to 2. The prompts are the neutral ones of the
    package where --prompts gives no others, and each text has exactly --tokens tokens. One scorer
    per steer tells most.

    Example: lmsteer grid sentiment detox --scorer sentiment --scorer toxicity --count 10
    """
    from ..figures import grid_figure
    from ..metrics import load_scorer
    from ..steer import interference

    specs = [steer, other_steer]
    usual = (-2.0, 2.0, 5)
    alone = strengths_alone(specs, "a grid", low=low, high=high, points=points, usual=usual)
    scorers = {name: load_scorer(name) for name in scorer or ["sentiment"]}
    network, tokenizer = open_model(model, device=device, dtype=dtype)
    (one, across), (other, up) = read_mix(specs, network, alone=alone)
    names = labels([one, other])
    pairs = [(a, b) for b in up for a in across]
    found = measured(
        network,
        tokenizer,
        read_files(prompts or [NEUTRAL], count),
        [{one: a, other: b} for a, b in pairs],
        scorers,
        worst=False,
        quiet=json_,
        tokens=tokens,
        samples=samples,
        top_p=top_p,
        nucleus=nucleus,
        seed=seed,
        batch_size=batch_size,
    )
    measures = [row for _, row in found]
    width = len(across)
    lines = [measures[start : start + width] for start in range(0, len(measures), width)]
    shown = [*scorers, "perplexity"]
    if figure is not None:
        grid_figure(figure, (names[one], names[other]), (across, up), lines, shown)
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
    for name in shown:
        corner = f"{escape(names[other])} \\ {escape(names[one])}"
        table = Table(corner, *strength_texts(across), title=escape(name))
        for text, line in zip(reversed(strength_texts(up)), reversed(lines), strict=True):
            table.add_row(text, *(f"{row[name].value:.3g}" for row in line))
        out.print(table)
    out.print(f"cosine of the maps: {cosine:+.3f}; {len(found[0][0])} texts per pair")
    if figure is not None:
        out.print(f"figure: {escape(str(figure))}")
