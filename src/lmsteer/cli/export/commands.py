"""`lmsteer export`: one file per format."""

from __future__ import annotations

import typer

from .folder import folder
from .gguf import gguf
from .peft import peft

export = typer.Typer(
    name="export",
    help="Take steers to other engines: as a plain folder, a PEFT adapter, or GGUF files.\n\n"
    "docs/engines.md says which engine takes which.\n\n"
    "Example: lmsteer export folder sentiment=2 --out cheerful",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
export.command()(folder)
export.command()(peft)
export.command()(gguf)
