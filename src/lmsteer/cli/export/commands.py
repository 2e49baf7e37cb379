"""`lmsteer export`: one file a form."""

from __future__ import annotations

import typer

from .folder import folder
from .gguf import gguf
from .peft import peft

export = typer.Typer(
    name="export",
    help="Take steers to other engines: a plain folder, a PEFT adapter, GGUF (docs/engines.md).",
    no_args_is_help=True,
)
export.command()(folder)
export.command()(peft)
export.command()(gguf)
