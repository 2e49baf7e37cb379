"""What people see: messages and progress bars on stderr, so that stdout holds results alone.

Names, labels, prompts, paths, what a model writes and what an error quotes are text of strangers:
each goes through `escape` where it is put into a line or a table. What is forgotten can still give
the terminal no order: `Terminal` spells out control characters in all that it prints.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib import import_module
from logging import ERROR, getLogger
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.segment import Segment
from rich.text import Text

from ..text import json_text, visible

if TYPE_CHECKING:
    from ..states import Progress as Callback


class Terminal(Console):
    """A console that prints control characters as text, all but line breaks."""

    def render_str(self, text: str, **how: Any) -> Text:
        """Text of a string with markup; its width is that of what is shown."""
        return super().render_str(visible(text, keep="\n"), **how)

    def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
        """Pieces of what is printed, the console's own orders among them."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(visible(segment.text, keep="\n"), segment.style)


out = Terminal(highlight=False, emoji=False)
err = Terminal(stderr=True, highlight=False, emoji=False)

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
    """Print an error; further lines of a message are moved in, so that none looks like ours."""
    told = escape(message, lines=True).replace("\n", "\n  ")
    err.print(f"[bold red]error:[/] {told}", soft_wrap=True)


def show_warnings() -> None:
    """Our own warnings as a line on stderr, without Python's file names and source lines.

    Those of others as Python shows them, without control characters.
    """
    from ..errors import LmsteerWarning

    plain = warnings.showwarning

    def shown(message: Any, category: Any, *rest: Any, **more: Any) -> None:
        if issubclass(category, LmsteerWarning):
            err.print(f"[yellow]warning:[/] {escape(str(message))}", soft_wrap=True)
        else:
            plain(visible(str(message), keep="\n"), category, *rest, **more)

    warnings.showwarning = shown
    warnings.simplefilter("once", LmsteerWarning)


_NOTHING = "[none][/none]"


def escape(text: str, *, lines: bool = False) -> str:
    """Text for a string with rich's markup: shown as it is, control characters spelled out.

    Whatever stands before and after it in the string, no bracket of the text becomes markup, and
    no backslash of it changes what follows.

    Args:
        text: Any.
        lines: Whether line breaks stay: the text is one that may have lines.
    """

    # Backslashes are doubled where they stand before a bracket, and nowhere else: a tag that does
    # nothing parts those of the text from those that escape.
    def escaped(found: re.Match[str]) -> str:
        before = f"{found[1] * 2}{_NOTHING}" if found[1] else ""
        return f"{before}\\[" if found[2] else before

    return re.sub(r"(?<!\\)(\\*)(\[|\Z)", escaped, visible(text, keep="\n" if lines else ""))


def print_json(value: Any, *, indent: int | None = None) -> None:
    """JSON on stdout: letters of all scripts as they are, control characters spelled out."""
    text = json_text(value, indent=indent)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # a terminal or a pipe that has no such letters
        text = json_text(value, indent=indent, ascii_only=True)
    print(text)


@contextlib.contextmanager
def progress_bars(*, quiet: bool = False) -> Iterator[Callback | None]:
    """A progress callback that draws one bar a stage; None when quiet."""
    if quiet:
        yield None
        return
    columns: tuple[Any, ...] = (
        TextColumn("{task.description}", markup=False),
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
    for name in ("torchao", "torch.utils._pytree"):  # transformers imports torchao where it is
        logger = getLogger(name)
        _UNDO.append(partial(logger.setLevel, logger.level))
        logger.setLevel(ERROR)
    verbosity = logging.get_verbosity()
    _UNDO.append(lambda: logging.set_verbosity(verbosity))
    if logging.is_progress_bar_enabled():
        _UNDO.append(logging.enable_progress_bar)  # which shows the Hub's bars too
    off = hub.are_progress_bars_disabled()
    _UNDO.append(hub.disable_progress_bars if off else hub.enable_progress_bars)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with contextlib.suppress(ImportError, AttributeError):  # unpacking has a bar of its own
        unpacking: Any = import_module("transformers.modeling_gguf_pytorch_utils")
        _UNDO.append(partial(setattr, unpacking, "tqdm", unpacking.tqdm))
        unpacking.tqdm = partial(unpacking.tqdm, disable=True)


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
