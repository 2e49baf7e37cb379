"""`lmsteer export gguf`."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from ..display import err, escape, print_json
from ..opening import open_weights
from ..options import MODEL, Force, Json, Model, Out
from ..steers import read_names


def gguf(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME",
            help="Steers, without strengths; each gets a file of its own.",
            show_default=False,
        ),
    ],
    out_folder: Out,
    model: Model = MODEL,
    precision: Annotated[
        str,
        typer.Option("--type", help="The format of the model's matrices: f32, f16, bf16 or q8_0."),
    ] = "f16",
    base: Annotated[
        bool, typer.Option(help="Write the model too (Llama), or the steers alone.")
    ] = True,
    force: Force = False,
    json_: Json = False,
) -> None:
    """Write GGUF files for llama.cpp: the model, and each steer as a LoRA scaled at run time.

    Example: lmsteer export gguf sentiment detox --out steered
    """
    from ...export import check_free, export_gguf

    check_free(out_folder, force=force)
    checkpoint = open_weights(model)
    steers = read_names(names, checkpoint.model)
    facts = export_gguf(
        checkpoint, steers, out_folder, base=precision if base else None, force=force
    )
    if json_:
        print_json(facts)
        return
    command = ["llama-server", "-m", facts["base"] or "BASE.gguf"]
    for file in facts["steers"].values():
        command += ["--lora", file]
    command.append("--lora-init-without-apply")
    err.print(escape(shlex.join(command)), soft_wrap=True)
    err.print(
        'and per request: "lora": [{"id": 0, "scale": 2.5}], where the scale is the strength',
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
