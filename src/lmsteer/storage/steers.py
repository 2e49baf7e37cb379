"""A steer on disk: a folder of ``steer.safetensors``, ``steer.json`` and a model card.

Nothing is ever unpickled. The module `folders` says how a folder is written so that none is lost.
"""

from __future__ import annotations

import os
import time
from os import PathLike
from pathlib import Path

from ..errors import ArtefactError, NotFoundError
from ..steer import Steer
from .card import card
from .facts import FACTS, MOST_FACTS
from .folders import check_place, place, tidy, writing
from .layout import CARD, TENSORS, pack, unpack

_READS, _PAUSE = 3, 0.02


def save_steer(steer: Steer, path: str | PathLike[str], *, force: bool = False) -> None:
    """Write a steer as a folder.

    At any moment, whatever is killed, `path` holds the old steer or the new one. Other files in
    the folder are left alone; of several writers at once each waits for the one before it.

    Args:
        steer: The steer to write, with its domain part.
        path: The folder to make; its parents are made too. Links are followed.
        force: Whether a steer that is already there is replaced. No other folder ever is.

    Raises:
        InputError: `path` exists and may not be replaced, or another process is writing it.
    """
    blob, facts = pack(steer)
    with writing(path, lambda: check_writable(path, force=force)) as fresh:
        (fresh / TENSORS).write_bytes(blob)
        (fresh / FACTS).write_text(facts, encoding="utf-8")
        (fresh / CARD).write_text(card(steer), encoding="utf-8")


def check_writable(path: str | PathLike[str], *, force: bool) -> None:
    """Raise InputError if `save_steer` would refuse to write; call it before long work."""
    check_place(path, FACTS, "a steer", force=force)


def read_steer(path: str | PathLike[str]) -> Steer:
    """Read a folder that `save_steer` wrote.

    Raises:
        NotFoundError: No such folder.
        ArtefactError: A folder that is incomplete, damaged, from a newer version, or not a steer.
    """
    folder = Path(path)
    if not os.path.isdir(folder):
        raise NotFoundError(f"no steer at {folder}: expected a folder with {FACTS} and {TENSORS}")
    tidy(folder)
    for left in reversed(range(_READS)):
        try:
            return unpack(*_contents(folder))
        except ArtefactError as error:
            if not left:
                raise ArtefactError(f"{folder} cannot be read: {error}") from error
        time.sleep(_PAUSE)  # somebody may be writing it
    raise AssertionError


def _contents(folder: Path) -> tuple[bytes, bytes]:
    """The contents of both files, of the same steer even while another is being written."""
    while True:
        facts = _read(folder, FACTS)
        tensors = _read(folder, TENSORS)
        if _read(folder, FACTS) == facts:
            return tensors, facts


def _read(folder: Path, name: str) -> bytes:
    path = place(folder, name)
    try:
        if path.exists() and not path.is_file():
            raise ArtefactError(f"{name} is not a file")
        if name == FACTS and path.stat().st_size > MOST_FACTS:
            raise ArtefactError(f"{name} is larger than {MOST_FACTS >> 20} MiB")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ArtefactError(f"it has no {name}; copy the whole folder again") from error
    except OSError as error:
        raise ArtefactError(f"{name} cannot be read ({error.strerror})") from error
