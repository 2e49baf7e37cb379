"""One writer of a folder at a time, and short steps that Ctrl-C does not cut in two."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import InputError

PRIVATE = ".lmsteer"
"""A folder inside each folder that lmsteer writes: what is under way there, and the locks."""

_STEP = 0.02
_NO_FOLDER = "{} is not a folder, and lmsteer keeps unfinished work there: move it away"


@contextlib.contextmanager
def locked(folder: Path, name: str, *, wait: float, doing: str) -> Iterator[Path]:
    """Hold the lock `name` of a folder; the folder and its `PRIVATE` one are made if missing.

    The lock file is removed with the lock, and `PRIVATE` with it where nothing else is left in it.

    Args:
        folder: The folder to lock. At most one process holds the lock, on all machines that share
            the disk.
        name: The name of the lock; each name is a lock of its own.
        wait: How long to wait for another holder, in seconds.
        doing: What a holder of the lock does, for the message.

    Yields:
        The `PRIVATE` folder.

    Raises:
        InputError: Another process still holds it after `wait` seconds, or `PRIVATE` is not a
            folder.
    """
    private = folder / PRIVATE
    file = private / f"{name}.lock"
    until = time.monotonic() + wait
    lock: Any = None
    try:
        while True:
            with uninterrupted():
                lock = _try(folder, private, file)
            if lock is not None:
                break
            if time.monotonic() > until:
                raise InputError(
                    f"another lmsteer command is {doing} {folder}; try again when it has finished, "
                    "or choose another folder"
                )
            time.sleep(_STEP)
        yield private
    finally:
        if lock is not None:
            with uninterrupted():
                _release(lock, private, file)


def _try(folder: Path, private: Path, file: Path) -> Any | None:
    """The lock, or None where another process holds it or has just removed its file."""
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        private.mkdir(exist_ok=True)
    except FileExistsError:
        if private.exists() and not private.is_dir():
            raise InputError(_NO_FOLDER.format(private)) from None
        if not folder.is_dir() and os.path.lexists(folder):
            raise
        return None  # another process has just made it, and removed it
    except FileNotFoundError:
        return None
    if private.is_symlink():
        raise InputError(_NO_FOLDER.format(private))
    try:
        # A holder removes the file before it lets go. Whoever opened it before that holds a lock
        # that nobody else will meet: only a file that still has its name counts.
        seen = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    except FileNotFoundError:
        return None  # its folder has just been removed
    try:
        lock = FileLock(str(file))
        try:
            lock.acquire(timeout=0)
        except (Timeout, FileNotFoundError, FileExistsError):  # the folder, removed and made anew
            return None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(seen), os.stat(file)):
                return lock
        lock.release()
        return None
    finally:
        os.close(seen)


def _release(lock: Any, private: Path, file: Path) -> None:
    try:
        with contextlib.suppress(OSError):  # Windows removes no file that is open
            file.unlink()
    finally:
        lock.release()
    with contextlib.suppress(OSError):
        if os.name == "nt":
            file.unlink(missing_ok=True)
        private.rmdir()


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Within the block Ctrl-C is held back; it takes effect when the block is done.

    It is for steps of milliseconds. Outside the main thread, where no Ctrl-C arrives, it does
    nothing.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    caught: list[tuple[int, Any]] = []
    signal.signal(signal.SIGINT, lambda number, frame: caught.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if caught:
            before(*caught[0])
