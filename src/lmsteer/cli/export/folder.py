"""`lmsteer export folder`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...errors import InputError
from ..display import err, escape, hush_transformers, print_json
from .steers import told


def folder(
    out_folder: Annotated[Path, typer.Option("--out", help="folder to write the model to")],
    steers: Annotated[
        list[str] | None, typer.Argument(help="NAME=STRENGTH, several add up")
    ] = None,
    model: Annotated[str, typer.Option(help="bundled, a local folder or a Hub id")] = "bundled",
    untie: Annotated[
        bool, typer.Option(help="without steers: an untied copy, for export gguf")
    ] = False,
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16  [default: the model's own]")
    ] = None,
    force: Annotated[bool, typer.Option(help="replace an earlier export")] = False,
    json_: Annotated[bool, typer.Option("--json", help="print the facts as JSON")] = False,
) -> None:
    """Write a plain Hugging Face folder with the steers in its weights, at fixed strengths.

    The model is never loaded whole. Any engine runs the result, at no cost a token.

    Example: lmsteer export folder sentiment=2 --model gpt2 --out gpt2-cheerful
    """
    from ...export import check_free, export_folder, open_checkpoint
    from ..strengths import read_fixed

    if not steers and not untie:
        raise InputError("give steers as NAME=STRENGTH, or --untie for a plain untied copy")
    check_free(out_folder, force=force)
    hush_transformers()
    checkpoint = open_checkpoint(model)
    mix = read_fixed(steers or [], checkpoint.model)
    facts = export_folder(checkpoint, mix, out_folder, untie=untie, dtype=dtype, force=force)
    if json_:
        print_json(facts)
        return
    told(facts)
    if facts["untied"]:
        err.print("the head was untied from the input embeddings, which stay as they were")
    err.print(f"[bold]{escape(str(out_folder))}[/]: load it as any model")
