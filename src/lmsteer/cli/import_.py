"""`lmsteer import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..steer import check_name, name_of_folder
from .display import err, escape, print_json
from .opening import open_model
from .options import Device, Dtype, Force, Json, Model, Out, SteerName
from .show import facts_of


def import_(
    checkpoint: Annotated[Path, typer.Argument(help="A .pt file of the official LM-Steer code.")],
    out_folder: Out,
    model: Model,
    number: Annotated[int, typer.Option(help="The number of the steer in the file, from 0.")] = 0,
    dummy: Annotated[
        int | None,
        typer.Option(
            help="The number of the dummy steer in the file, usually 1; it becomes the domain part."
        ),
    ] = None,
    name: SteerName = None,
    device: Device = None,
    dtype: Dtype = None,
    force: Force = False,
    json_: Json = False,
) -> None:
    """Read a checkpoint of the official code, without running anything that it holds.

    --model is the model that it was trained on. The official factor epsilon_0 is made part of the
    map: strength 5 is what the paper calls 5 epsilon_0.

    Example: lmsteer import official.pt --dummy 1 --model gpt2-large --out sentiment
    """
    from ..storage import check_writable, import_official

    check_writable(out_folder, force=force)
    name = check_name(name or name_of_folder(out_folder))
    network, _ = open_model(model, device=device, dtype=dtype)
    steer = import_official(checkpoint, model=network, steer=number, dummy=dummy, name=name)
    steer.save(out_folder, force=force)
    if json_:
        print_json({"out": str(out_folder), **facts_of(steer), "record": dict(steer.record)})
        return
    err.print(f"[bold]{escape(str(out_folder))}[/]: {escape(repr(steer))}")
