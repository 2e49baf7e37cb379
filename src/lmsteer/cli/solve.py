"""`lmsteer solve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from ..steer import check_name, name_of_folder
from ..storage import check_writable, load_statistics
from .display import print_json, progress_bars
from .opening import open_model
from .options import (
    MODEL,
    Calibrate,
    Device,
    Dtype,
    Force,
    Json,
    Model,
    Out,
    Rank,
    Ridge,
    SteerName,
)
from .training import tell_next, tell_written


def solve(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER", help="Folders that lmsteer statistics wrote: all add up."),
    ],
    out_folder: Out,
    model: Model = MODEL,
    without: Annotated[
        list[Path] | None,
        typer.Option(
            help="Statistics of texts to be taken away, which must be among the others. May be "
            "given several times."
        ),
    ] = None,
    half_life: Annotated[
        float | None,
        typer.Option(
            help="Each folder counts half as much as the one that is so many places after it: the "
            "last one is the newest."
        ),
    ] = None,
    name: SteerName = None,
    rank: Rank = None,
    ridge: Ridge = None,
    calibrate: Calibrate = True,
    device: Device = None,
    dtype: Dtype = None,
    force: Force = False,
    json_: Json = False,
) -> None:
    """Solve for a steer from statistics, without reading any text.

    With several folders and none taken away, each in turn judges ridges by what is learned from the
    others. The steer has no domain part, and rank 16 unless another is asked for.

    Example: lmsteer solve monday --out mine
    """
    from ..recipes import calibrated
    from ..training import solve as solved

    check_writable(out_folder, force=force)
    name = check_name(name or name_of_folder(out_folder))
    if half_life is not None and not half_life > 0:
        raise InputError(f"--half-life must be above 0, was: {half_life}")
    parts = [load_statistics(folder) for folder in folders]
    if half_life is not None:
        ages = range(len(parts) - 1, -1, -1)
        parts = [part * 0.5 ** (age / half_life) for part, age in zip(parts, ages, strict=True)]
    if without:
        left = sum(parts[1:], parts[0])
        for folder in without:
            left = left - load_statistics(folder)
        parts = [left]
    network, tokenizer = open_model(model, device=device, dtype=dtype)
    steer = solved(parts, network, name=name, ridge=ridge, rank=rank)
    with progress_bars(quiet=json_) as progress:
        (steer,) = calibrated(network, tokenizer, [steer], calibrate, progress)
    steer.save(out_folder, force=force)
    if json_:
        print_json({"out": str(out_folder), "rank": steer.rank, "record": dict(steer.record)})
        return
    tell_written(steer, out_folder)
    tell_next(out_folder, model)
