"""How a long job reports its progress, and the line that shows it where somebody watches.

A library prints nothing of its own; this line is the one thing that Python users see of a job, and
it is drawn with care: on stderr, only if that is a terminal or a notebook, only if the job takes
longer than `PATIENCE` seconds, and wiped when the job ends. It stands in this room because the
option ``progress`` does: what every job takes is known here, and the rooms above only report. It is
one line of plain text, written when the job reports: no thread that outlives an error, no cursor to
be put back, nothing that a notebook needs a package for. The command line has bars of its own
(`cli.display`), with the names of stages from here.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Literal, TypeVar

from ..text import visible
from .processes import workers

Progress = Callable[[str, int, int], None]
"""A function called as ``progress(stage, done, total)``; lines and bars are drawn from it."""

PATIENCE = 2.0
"""The seconds after which a job begins to show its progress."""
_EVERY = 0.2
_BAR = 24
LABELS = {
    "read": "reading the texts once",
    "fit": "fitting the map",
    "generate": "writing, by tokens",
    "prompts": "writing, by prompts",
    "measure": "measuring",
    "score": "scoring",
    "trunk": "training a small transformer",
    "samples": "learning from samples",
}
"""What people are told that each stage does; others go by their own name."""

F = TypeVar("F", bound=Callable[..., Any])
_AROUND: ContextVar[tuple[Progress | None] | None] = ContextVar("progress", default=None)
"""What the job around reports to, if there is a job around."""


class _Shown:
    """The default of every ``progress`` option: a line where somebody watches (`watched`)."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report to the job around, if there is one."""
        for told in _AROUND.get() or ():
            if told:
                told(stage, done, total)

    def __repr__(self) -> str:
        return "<a line where somebody watches>"


SHOWN: Progress = _Shown()


def watched(function: F) -> F:
    """Give a function with a ``progress`` option what draws by itself, for the option's default.

    The function itself gets a callable or None. Where it is called by another such function, it
    reports to the same line, or to nobody if that one is silent. A generator is left silent by
    default: what it yields is its progress.
    """
    lazy = inspect.isgeneratorfunction(inspect.unwrap(function))

    @functools.wraps(function)
    def wrapper(
        *args: Any, progress: Progress | Literal[False] | None = SHOWN, **given: Any
    ) -> Any:
        if lazy:
            progress = None if progress is SHOWN else progress
            return function(*args, progress=progress, **given)
        with drawn(progress) as told:
            return function(*args, progress=told, **given)

    return wrapper  # type: ignore[return-value]


@contextlib.contextmanager
def drawn(progress: Progress | Literal[False] | None) -> Iterator[Progress | None]:
    """What a job reports to within the block.

    Args:
        progress: `SHOWN`: whatever the job around this one reports to, or a line of our own where
            somebody watches. None (or False): nobody. A function: this one.
    """
    line = None
    if progress is not SHOWN:
        told = progress or None
    elif (around := _AROUND.get()) is not None:
        (told,) = around
    else:
        told = line = Line(sys.stderr) if is_watched() else None
    token = _AROUND.set((told,))
    try:
        yield told
    finally:
        _AROUND.reset(token)
        if line is not None:
            line.close()


def is_watched() -> bool:
    """Whether stderr is a terminal or the output of a notebook's cell, in the first process."""
    if workers().rank > 0 or sys.stderr is None:
        return False
    if _in_notebook():
        return True
    try:
        return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    except ValueError:  # it has been closed
        return False


def _in_notebook() -> bool:
    """Whether this is the kernel of a notebook: Jupyter's, or one that behaves like it."""
    interactive: Any = sys.modules.get("IPython")
    shell = interactive.get_ipython() if interactive is not None else None
    return type(shell).__name__ in ("ZMQInteractiveShell", "Shell")  # the latter is Colab's


class Line:
    """A progress callback that draws the current stage as one line, with an estimate of time.

    Args:
        stream: The text file where the line is written.
        clock: The time in seconds.
    """

    def __init__(self, stream: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._begun = self._drawn = clock()
        self._width = 0
        self._stage = ""
        self._first = (0, self._begun)

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Draw how far the stage is, unless it is too early or too soon after the last time."""
        now = self._clock()
        if stage != self._stage or done < self._first[0]:
            # A pass that is resumed begins far on: what counts is what is done from here.
            self._stage, self._first = stage, (done, now)
        if done >= total:
            self.close()
        elif now - self._begun >= PATIENCE and now - self._drawn >= _EVERY:
            self._drawn = now
            self._write(self._text(done, total, now))

    def close(self) -> None:
        """Wipe the line."""
        if self._width:
            self._write("")
            self._width = 0

    def _text(self, done: int, total: int, now: float) -> str:
        first, since = self._first
        left = ""
        if done > first:
            left = f", {_clock(int((now - since) / (done - first) * (total - done)))} left"
        filled = _BAR * done // max(1, total)
        bar = "#" * filled + "." * (_BAR - filled)
        label = visible(LABELS.get(self._stage, self._stage))
        return f"{label} [{bar}] {done}/{total} {_clock(int(now - self._begun))}{left}"

    def _write(self, text: str) -> None:
        text = text[: shutil.get_terminal_size().columns - 1]
        with contextlib.suppress(OSError, ValueError):  # nobody watches any more
            self._stream.write(f"\r{text.ljust(self._width)}" + ("" if text else "\r"))
            self._stream.flush()
        self._width = len(text)


def _clock(seconds: int) -> str:
    """Seconds as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
