"""What people see: messages and progress bars on stderr, so that stdout holds results alone."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from ..hidden import Progress as Callback

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

_LABELS = {
    "read": "reading the texts once",
    "fit": "fitting the map",
    "generate": "writing",
    "prompts": "writing",
    "measure": "measuring",
    "trunk": "training a small transformer",
    "samples": "learning from samples",
}


def fail(message: str) -> None:
    """Print an error."""
    err.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)


def show_warnings() -> None:
    """Our own warnings as a line on stderr, without Python's file names and source lines."""
    from ..errors import LmsteerWarning

    plain = warnings.showwarning

    def shown(message: Any, category: Any, *rest: Any, **more: Any) -> None:
        if issubclass(category, LmsteerWarning):
            err.print(f"[yellow]warning:[/] {escape(str(message))}", soft_wrap=True)
        else:
            plain(message, category, *rest, **more)

    warnings.showwarning = shown
    warnings.simplefilter("once", LmsteerWarning)


def escape(text: str) -> str:
    """Text as it is, where rich would read [square brackets] as markup."""
    from rich.markup import escape as escaped

    return escaped(text)


@contextlib.contextmanager
def progress_bars(*, quiet: bool = False) -> Iterator[Callback | None]:
    """A progress callback that draws one bar a stage; None when quiet."""
    if quiet:
        yield None
        return
    columns: tuple[Any, ...] = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def update(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(_LABELS.get(stage, stage), total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield update


def hush_transformers() -> None:
    """No weight-loading bars and advice of other libraries between our own lines."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
