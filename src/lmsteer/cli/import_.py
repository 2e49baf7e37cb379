"""`lmsteer import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..steer import check_name, name_of_folder
from .display import err, escape, hush_transformers


def import_(
    checkpoint: Annotated[Path, typer.Argument(help=".pt file of the official LM-Steer code")],
    out_folder: Annotated[Path, typer.Option("--out", help="folder to write the steer to")],
    model: Annotated[str, typer.Option(help="what it was trained on, e.g. gpt2-large")],
    steer: Annotated[int, typer.Option(help="number of the steer in the file")] = 0,
    dummy: Annotated[
        int | None, typer.Option(help="number of the dummy steer, kept as the domain; usually 1")
    ] = None,
    name: Annotated[str | None, typer.Option(help="what to call it; the folder's name")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16, float16 or auto")] = None,
    force: Annotated[bool, typer.Option(help="replace a steer that is already there")] = False,
) -> None:
    """Read a checkpoint of the official code, without running what it pickles.

    Its epsilon_0 is folded in: strength 5 is what the paper calls 5 epsilon_0.

    Example: lmsteer import official.pt --steer 0 --dummy 1 --model gpt2-large --out sentiment
    """
    from ..model import load_model
    from ..storage import check_writable, import_official

    check_writable(out_folder, force=force)
    name = check_name(name or name_of_folder(out_folder))
    hush_transformers()
    network, _ = load_model(model, device="cpu", dtype=dtype)
    found = import_official(checkpoint, model=network, steer=steer, dummy=dummy, name=name)
    found.save(out_folder, force=force)
    err.print(f"[bold]{escape(str(out_folder))}[/]: {escape(repr(found))}")
