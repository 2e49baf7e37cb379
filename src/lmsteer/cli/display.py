"""What people see: messages and progress bars on stderr, so that stdout holds results alone."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator
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


_UNDO: list[Callable[[], object]] = []


def hush_transformers() -> None:
    """No weight-loading bars and advice of other libraries between our own lines."""
    if _UNDO:
        return
    from huggingface_hub import utils
    from transformers.utils import logging

    hub: Any = utils
    if "TOKENIZERS_PARALLELISM" not in os.environ:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        _UNDO.append(lambda: os.environ.pop("TOKENIZERS_PARALLELISM", None))
    verbosity = logging.get_verbosity()
    _UNDO.append(lambda: logging.set_verbosity(verbosity))
    if logging.is_progress_bar_enabled():
        _UNDO.append(logging.enable_progress_bar)  # which shows the Hub's bars too
    off = hub.are_progress_bars_disabled()
    _UNDO.append(hub.disable_progress_bars if off else hub.enable_progress_bars)
    logging.set_verbosity_error()
    logging.disable_progress_bar()


@contextlib.contextmanager
def unhushed() -> Iterator[None]:
    """After the block the other libraries are as loud as they were before.

    Typer also puts a hook of its own in the way of exceptions that nobody catches.
    """
    hook = sys.excepthook
    try:
        yield
    finally:
        sys.excepthook = hook
        while _UNDO:
            _UNDO.pop(0)()
