"""Where the rows of a pass are held: in memory, or in a mapped file that can be resumed."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import InputError, MismatchError


@dataclass(frozen=True)
class Keep:
    """Where the rows of a pass are held.

    Args:
        memory: How many GiB of rows are held in memory; if there are more, they go to a file that
            is mapped into memory.
        folder: A folder in which the rows are kept in a file from the start, so that an interrupted
            pass can go on. None: in memory, or in a temporary file that ends with the process.
        resume: Go on with what is in `folder`.
        key: All that the pass depends on; a pass with another key is not resumed.
    """

    memory: float = 4.0
    folder: Path | None = None
    resume: bool = False
    key: Mapping[str, Any] = field(default_factory=dict)


class CachedRows:
    """The rows of one pass: the `tensor` to write to, and the number of batches that are done."""

    def __init__(
        self,
        keep: Keep,
        shape: tuple[int, int],
        dtype: torch.dtype,
        device: torch.device,
        part: str,
    ) -> None:
        size = max(1, shape[0] * shape[1]) * dtype.itemsize
        self.done = 0
        self._file: np.memmap | None = None
        self._told: Path | None = None
        if keep.folder is None and size <= keep.memory * 2**30:
            self.tensor = torch.empty(shape, dtype=dtype, device=device)
            return
        if keep.folder is None:
            _check_room(Path(tempfile.gettempdir()), size)
            handle, name = tempfile.mkstemp(prefix="lmsteer-states-")
            os.close(handle)
            self._map(Path(name), "w+", size, shape, dtype)
            Path(name).unlink()  # the map keeps it alive; nothing stays behind after a crash
            return
        keep.folder.mkdir(parents=True, exist_ok=True)
        path = keep.folder / f"states-{part}.bin"
        self._told = path.with_suffix(".json")
        self._facts = {"shape": list(shape), "dtype": str(dtype), "key": dict(keep.key)}
        if self._told.is_file() and not keep.resume:
            raise InputError(
                f"{keep.folder} holds the work of an interrupted training: resume=True (--resume) "
                "goes on with it; delete the folder to begin anew"
            )
        if self._told.is_file():
            self.done = self._resumed(self._told)
        else:
            _check_room(keep.folder, size)
        self._map(path, "r+" if self.done else "w+", size, shape, dtype)

    def save(self, done: int) -> None:
        """Note how many batches are written; an interrupted pass goes on after them."""
        self.done = done
        if self._file is None or self._told is None:
            return
        self._file.flush()
        fresh = self._told.with_suffix(".new")
        fresh.write_text(json.dumps({**self._facts, "batches": done}))
        fresh.replace(self._told)

    def _map(
        self, path: Path, mode: Any, size: int, shape: tuple[int, int], dtype: torch.dtype
    ) -> None:
        self._file = np.memmap(path, dtype=np.uint8, mode=mode, shape=(size,))
        flat = torch.from_numpy(self._file).view(dtype)
        self.tensor = flat[: shape[0] * shape[1]].view(shape)

    def _resumed(self, told: Path) -> int:
        before = json.loads(told.read_text())
        now = json.loads(json.dumps(self._facts))
        names = {*before["key"], *now["key"]}
        changed = [n for n in sorted(names) if before["key"].get(n) != now["key"].get(n)]
        changed += [n for n in ("shape", "dtype") if before[n] != now[n] and not changed]
        if changed:
            what = "; ".join(
                f"{n} was {before['key'].get(n, before.get(n))!r}, "
                f"is {now['key'].get(n, now.get(n))!r}"
                for n in changed
            )
            raise MismatchError(
                f"{told.parent} was begun with other options, so it cannot be resumed: {what}. "
                "Give the same as then, or delete the folder to begin anew"
            )
        return int(before["batches"])


def _check_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise InputError(
            f"the states of these texts need {size / 2**30:.1f} GiB, {folder} has "
            f"{free / 2**30:.1f} GiB left; make room, raise memory= (GiB of states held in "
            "memory), set TMPDIR to another folder, or give fewer texts"
        )
