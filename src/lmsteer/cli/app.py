"""The command line. One file per command; `main` turns our errors into a message and exit 2."""

from __future__ import annotations

import sys
import warnings

import typer

from ..errors import LmsteerError
from .calibrate import calibrate
from .compare import compare
from .compose import compose
from .demo import demo
from .display import fail, show_warnings, unhushed
from .evaluate import evaluate
from .explain import explain
from .export.commands import export
from .generate import generate
from .grid import grid
from .heap import keep
from .import_ import import_
from .push import push
from .show import list_, show
from .solve import solve
from .statistics import statistics
from .sweep import sweep
from .theory import theory
from .train import train
from .transfer import transfer

app = typer.Typer(
    name="lmsteer",
    help="Steer a language model by a learned linear map on its word embeddings (LM-Steer).\n\n"
    "Example: lmsteer demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # so that paragraphs are filled to the terminal's width
)
app.command()(demo)
app.command()(train)
app.command()(statistics)
app.command()(solve)
app.command()(generate)
app.command("list")(list_)
app.command()(show)
app.command()(calibrate)
app.command("import")(import_)
app.command()(sweep)
app.command()(grid)
app.command()(compose)
app.command()(evaluate)
app.command()(compare)
app.command()(transfer)
app.command()(explain)
app.command()(theory)
app.add_typer(export)
app.command()(push)


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the `lmsteer` command; exits with 2 on a user's mistake.

    Args:
        arguments: The words after `lmsteer`, in a call from within Python, whose process is left
            as it was. None: this is the command's own process, and its arguments are taken.
    """
    if arguments is None:
        keep()
    try:
        with warnings.catch_warnings(), unhushed():
            show_warnings()
            app(arguments)  # typer itself reports unknown options and exits with 2
    except LmsteerError as error:
        fail(str(error))
        sys.exit(2)
    except OSError as error:  # a full disk, a folder that may not be written
        if error.errno is None:
            raise
        where = f": {error.filename}" if error.filename else ""
        fail(f"{error.strerror or error}{where}")
        sys.exit(2)
