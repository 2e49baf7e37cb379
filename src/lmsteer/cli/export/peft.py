"""`lmsteer export peft`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..display import err, escape, hush_transformers, print_json
from .steers import told


def peft(
    steers: Annotated[list[str], typer.Argument(help="NAME=STRENGTH, one or more")],
    out_folder: Annotated[Path, typer.Option("--out", help="folder to write the adapter to")],
    model: Annotated[str, typer.Option(help="bundled, a local folder or a Hub id")] = "bundled",
    rank: Annotated[
        int | None, typer.Option(help="keep so many directions  [default: all, exact]")
    ] = None,
    force: Annotated[bool, typer.Option(help="replace an earlier export")] = False,
    json_: Annotated[bool, typer.Option("--json", help="print the facts as JSON")] = False,
) -> None:
    """Write a LoRA on the head, which PEFT and engines that read its adapters load.

    At adapter weight 1 the steers act at the strengths given; other weights scale them.

    Example: lmsteer export peft sentiment=1 --model gpt2 --out sentiment-lora
    """
    from ...export import TIED_NOTE, check_free, export_peft, open_checkpoint
    from ..strengths import read_fixed

    check_free(out_folder, force=force)
    hush_transformers()
    checkpoint = open_checkpoint(model)
    mix = read_fixed(steers, checkpoint.model)
    facts = export_peft(checkpoint, mix, out_folder, rank=rank, force=force)
    if json_:
        print_json(facts)
        return
    told(facts)
    if facts["truncation_error"]:
        err.print(
            f"truncated to rank {facts['rank']}: the map differs from the whole one by "
            f"{facts['truncation_error']:.3g} (relative)"
        )
    if facts["tied"]:
        err.print(f"[yellow]note:[/] {TIED_NOTE}")
    err.print(f"[bold]{escape(str(out_folder))}[/]: PeftModel.from_pretrained(model, FOLDER)")
