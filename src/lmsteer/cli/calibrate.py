"""`lmsteer calibrate`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from ..errors import InputError
from ..steer import Calibration, strength_texts
from .display import out, print_json, progress_bars
from .opening import open_model
from .options import (
    MODEL,
    SEED,
    Count,
    Device,
    Dtype,
    Json,
    Model,
    Name,
    OptionalOut,
    Prompts,
    Samples,
    Seed,
    Tokens,
)
from .prompts import read_files
from .steers import read_name, tell_prompts


def calibrate(
    name: Name,
    out_folder: OptionalOut = None,
    model: Model = MODEL,
    prompts: Prompts = None,
    count: Count = None,
    samples: Samples = 4,
    tokens: Tokens = 20,
    seed: Seed = SEED,
    device: Device = None,
    dtype: Dtype = None,
    json_: Json = False,
) -> None:
    """Measure what each strength costs, and find the range in which the text stays fluent.

    The table is written into the steer's own folder, or with --out to a new one. Afterwards
    strengths can be given in words: +auto is the end of the range, 80% is so much of the way
    there, and kl:0.5 is the strength at which the steered model is 0.5 nats per token away from
    its base.

    Example: lmsteer calibrate sentiment --out calibrated
    """
    from ..recipes import calibrate as measure

    place = out_folder or Path(name)
    if out_folder is None and not place.is_dir():
        raise InputError(
            f"{name!r} is not the folder of a steer, and the calibrated steer must be written to "
            "one: give it with --out FOLDER"
        )
    network, tokenizer = open_model(model, device=device, dtype=dtype)
    steer = read_name(name, network)
    tell_prompts([steer])
    with progress_bars(quiet=json_) as progress:
        steer = measure(
            network,
            tokenizer,
            steer,
            prompts=read_files(prompts, count) if prompts else None,
            samples=samples,
            max_new_tokens=tokens,
            seed=seed,
            progress=progress,
        )
    steer.save(place, force=True)
    assert steer.calibration is not None
    if json_:
        print_json(asdict(steer.calibration))
        return
    describe_calibration(steer.calibration)


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
        f"The safe range is {low:+.2f} to {high:+.2f}: there the perplexity is at most 1.5 times, "
        "and distinct-2 at least 0.9 times, that of unsteered text."
    )
