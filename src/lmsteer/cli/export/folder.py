"""`lmsteer export folder`."""

from __future__ import annotations

from typing import Annotated

import typer

from ...errors import InputError
from ..display import err, escape, print_json
from ..opening import open_weights
from ..options import MODEL, Dtype, Fixed, Force, Json, Model, Out
from ..steers import read_fixed
from .steers import told


def folder(
    out_folder: Out,
    steers: Fixed = [],  # noqa: B006
    model: Model = MODEL,
    untie: Annotated[
        bool,
        typer.Option(
            "--untie", help="Without steers: write a copy whose head is its own, for export gguf."
        ),
    ] = False,
    dtype: Dtype = None,
    force: Force = False,
    json_: Json = False,
) -> None:
    """Write a plain Hugging Face folder with the steers in its weights, at fixed strengths.

    The model is never loaded whole. Any engine runs the result, at no cost per token.

    Example: lmsteer export folder sentiment=2 --out cheerful
    """
    from ...export import check_free, export_folder

    if not steers and not untie:
        raise InputError("give steers as NAME=STRENGTH, or --untie for a plain untied copy")
    check_free(out_folder, force=force)
    checkpoint = open_weights(model)
    mix = read_fixed(steers, checkpoint.model)
    kept = None if dtype == "auto" else dtype
    facts = export_folder(checkpoint, mix, out_folder, untie=untie, dtype=kept, force=force)
    if json_:
        print_json(facts)
        return
    told(facts)
    if facts["untied"]:
        err.print("the head was untied from the input embeddings, which stay as they were")
    err.print(f"[bold]{escape(str(out_folder))}[/]: load it as any model")
