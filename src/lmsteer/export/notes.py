"""What every export says of itself, and where it may write."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from ..steer import Steer, labels
from ..storage import MARK, check_place, writing
from .checkpoint import Checkpoint


def baked_in(fixed: Mapping[Steer, float]) -> list[dict[str, Any]]:
    """Each steer of an export, and what became of its domain part."""
    names = labels(fixed)
    return [
        {
            "name": names[steer],
            "strength": strength,
            "site": steer.site,
            "rank": steer.rank,
            "domain": "without a domain part"
            if steer.domain is None
            else "its domain part is in too"
            if steer.domain in fixed
            else "its domain part is left out",
        }
        for steer, strength in fixed.items()
    ]


def base_of(checkpoint: Checkpoint) -> tuple[str, str]:
    """What to call the base model in a card, and its name on the Hub: "" where it has none."""
    base = str(checkpoint.model.config._name_or_path)
    is_on_hub = base.count("/") == 1 and not Path(base).exists()
    return (base, base) if is_on_hub else (Path(base).name, "")


@contextlib.contextmanager
def fresh_folder(path: str | PathLike[str], *, force: bool) -> Iterator[Path]:
    """A folder to fill, whose files are moved to `path` together at the end, or not at all.

    Files of an earlier export that are not written again are removed; other files never are.

    Raises:
        InputError: `path` exists; only an earlier export is replaced, and only by `force`.
    """
    with writing(path, lambda: check_free(path, force=force), listed=True) as folder:
        yield folder


def check_free(path: str | PathLike[str], *, force: bool) -> None:
    """Raise InputError if `fresh_folder` would; call it before long work."""
    check_place(path, MARK, "an export", force=force)
