"""`lmsteer export gguf`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from ..display import err, escape, hush_transformers, print_json


def gguf(
    steers: Annotated[list[str], typer.Argument(help="names of steers; each gets a file")],
    out_folder: Annotated[Path, typer.Option("--out", help="folder to write the files to")],
    model: Annotated[str, typer.Option(help="bundled, a local folder or a Hub id")] = "bundled",
    precision: Annotated[
        str, typer.Option("--type", help="of the model's matrices: f32, f16, bf16 or q8_0")
    ] = "f16",
    base: Annotated[
        bool, typer.Option(help="write the model too (Llama), not steers alone")
    ] = True,
    force: Annotated[bool, typer.Option(help="replace an earlier export")] = False,
    json_: Annotated[bool, typer.Option("--json", help="print the facts as JSON")] = False,
) -> None:
    """Write GGUF files for llama.cpp: the model, and each steer as a LoRA scaled at run time.

    Example: lmsteer export gguf sentiment detox --model bundled --out steered
    """
    from ...export import check_free, export_gguf, open_checkpoint
    from ...storage import load_steer
    from ..strengths import check_different

    check_free(out_folder, force=force)
    hush_transformers()
    checkpoint = open_checkpoint(model)
    found = [load_steer(name, checkpoint.model) for name in steers]
    check_different(steers, found)
    facts = export_gguf(
        checkpoint, found, out_folder, base=precision if base else None, force=force
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
