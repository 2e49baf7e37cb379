"""How lmsteer writes its folders: at any moment a folder is whole, the old one or the new one.

A writer fills a folder beside the old files, ``.lmsteer/new``; one rename to ``.lmsteer/ready``
decides; then the files move to their places. What a killed run leaves is either ``new``, which the
next command removes, or ``ready``, which it moves to its place: until then `place` finds the new
files there. Files of other names are never touched.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from os import PathLike
from pathlib import Path, PurePosixPath

from ..errors import ArtefactError, InputError
from .locks import PRIVATE, locked, uninterrupted

MARK = ".lmsteer-export"
"""In a folder of an export: a JSON list of the files that the export wrote."""

_NEW, _READY, _WORK = "new", "ready", "unfinished"
_WAIT = 60.0


@contextlib.contextmanager
def writing(
    path: str | PathLike[str], check: Callable[[], None], *, listed: bool = False
) -> Iterator[Path]:
    """An empty folder to fill, whose files are moved to `path` together, or not at all.

    Args:
        path: The folder to write. It is made, with its parents, if it is missing. Links are
            followed.
        check: A function that raises if the folder may not be written. It is called again once no
            other process can write the folder.
        listed: Whether to write a list of the files too, so that the next `writing` removes those
            that are not written again.

    Raises:
        InputError: `check` raised it; another process has been writing the folder for a minute; or
            a folder of the user lies where a file is to be written.
    """
    folder = Path(os.path.realpath(path))
    check()
    is_new = not folder.exists()
    try:
        with locked(folder, "write", wait=_WAIT, doing="writing to") as private:
            with uninterrupted():
                _recover(folder)
            check()
            fresh = private / _NEW
            try:
                fresh.mkdir()
                yield fresh
                if listed:
                    (fresh / MARK).write_text(json.dumps(_files(fresh), indent=1) + "\n")
                _check_room(folder, fresh)
                for name in _files(fresh):
                    _flush(fresh / name)
                with uninterrupted():
                    fresh.rename(private / _READY)
                    _finish(folder)
            except BaseException:
                with uninterrupted():
                    shutil.rmtree(fresh, ignore_errors=True)
                raise
    finally:
        if is_new:  # of a write that failed
            with contextlib.suppress(OSError):
                folder.rmdir()


def place(folder: Path, name: str) -> Path:
    """Where the file `name` of a folder lies, even if a killed run has not moved it yet."""
    ready = folder / PRIVATE / _READY / name
    return ready if ready.is_file() else folder / name


def tidy(folder: Path) -> None:
    """Finish what a killed run left, if nobody else is writing and the disk can be written."""
    if not (folder / PRIVATE).exists():
        return
    for name in ("work", "write"):
        with (
            contextlib.suppress(InputError, OSError),
            locked(folder, name, wait=0.1, doing="writing to"),
            uninterrupted(),
        ):
            if name == "write":
                _recover(folder)


@contextlib.contextmanager
def working(path: str | PathLike[str], *, owner: bool = True) -> Iterator[Path]:
    """A folder for long work on `path`: kept if the block fails, so that the work can go on.

    It lies inside `path`, under lmsteer's own name, and is removed when the block is done.

    Args:
        path: The folder that the work is for. Links are followed.
        owner: Whether this process holds the lock and removes the folder: one of several processes
            that work together does.

    Raises:
        InputError: Another command works on `path`.
    """
    folder = Path(os.path.realpath(path))
    if not owner:
        yield folder / PRIVATE / _WORK
        return
    is_new = not folder.exists()
    try:
        with locked(folder, "work", wait=0.0, doing="working on") as private:
            work = private / _WORK
            yield work
            shutil.rmtree(work, ignore_errors=True)
    finally:
        if is_new:
            with contextlib.suppress(OSError):
                folder.rmdir()


def check_place(path: str | PathLike[str], mark: str, what: str, *, force: bool) -> None:
    """Raise InputError if a folder may not be written.

    Args:
        path: Where the folder is to be.
        mark: The file by which a folder of this kind is recognised.
        what: What this kind of folder is called, with its article.
        force: Whether a folder of this kind may be replaced; other folders never are.
    """
    folder = Path(os.path.realpath(path))
    for left in reversed(range(3)):
        if is_free(folder):
            return
        if (folder / PRIVATE / _READY / mark).is_file() or (folder / mark).is_file():
            break
        if not left:
            raise InputError(
                f"{path} exists and is not {what}, so it is left alone; choose another name"
            )
        time.sleep(0.01)  # its first files may be on their way
    if not force:
        raise InputError(
            f"{path} exists already; choose another name, or replace it with force=True (--force)"
        )


def is_free(folder: Path) -> bool:
    """Whether there is nothing of the user's: no folder, or nothing in it but unfinished work."""
    if not os.path.lexists(folder):
        return True
    has_ready = (folder / PRIVATE / _READY).exists()
    return (
        folder.is_dir()
        and not has_ready
        and all(child.name == PRIVATE for child in folder.iterdir())
    )


def write_file(path: str | PathLike[str], content: str | bytes) -> None:
    """Write one file, text as UTF-8: whoever is killed, `path` holds the old text or the new one.

    What a killed run leaves is replaced when the same file is written again.
    """
    target = Path(os.path.realpath(path))
    fresh = target.with_name(f"{PRIVATE}-{target.name}")
    fresh.unlink(missing_ok=True)
    try:
        with fresh.open("xb") as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(target)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def _recover(folder: Path) -> None:
    """Finish what a rename decided and drop the rest; the caller holds the lock."""
    _finish(folder)
    shutil.rmtree(folder / PRIVATE / _NEW, ignore_errors=True)


def _finish(folder: Path) -> None:
    """Move the files that are ready to their places. May be interrupted, and done again."""
    ready = folder / PRIVATE / _READY
    if not ready.is_dir():
        return
    files = _files(ready)
    if MARK in files:
        for name in sorted(_listed(folder / MARK) - _listed(ready / MARK)):
            (folder / name).unlink(missing_ok=True)
    # The list last: as long as the old one stands, what it names can still be told apart.
    for name in sorted(files, key=lambda name: name == MARK):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (ready / name).replace(folder / name)
    _flush(folder)
    shutil.rmtree(ready)


def _files(folder: Path) -> list[str]:
    """All files below a folder, by their paths in it."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir())


def _listed(mark: Path) -> set[str]:
    """The files that an export wrote, as its list says; paths that lead out of it are dropped."""
    try:
        names = json.loads(mark.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return set()
    except (OSError, ValueError) as error:
        raise ArtefactError(
            f"{mark} does not list the files of an export ({error}); move them away, or choose "
            "another folder"
        ) from error
    if not isinstance(names, list):
        return set()
    paths = [PurePosixPath(name) for name in names if isinstance(name, str)]
    return {str(p) for p in paths if p.parts and not p.is_absolute() and ".." not in p.parts}


def _check_room(folder: Path, fresh: Path) -> None:
    for name in _files(fresh):
        if (folder / name).is_dir():
            raise InputError(
                f"{folder / name} is a folder, and a file of that name is to be written: move it "
                "away, or choose another folder"
            )


def _flush(path: Path) -> None:
    """Wait until the disk holds the file, so that it survives a loss of power."""
    with contextlib.suppress(OSError):  # Windows opens no folders, some disks flush none
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
