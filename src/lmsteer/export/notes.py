"""What every export says of itself, and where it may write."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..escaping import markdown
from ..naming import labels
from ..steer import Steer
from ..storage import replacing
from ..strengths import strength_texts

MARK = ".lmsteer-export"


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


def steer_lines(facts: Sequence[Mapping[str, Any]], *, site: bool = False) -> list[str]:
    """A line of Markdown for each steer of `baked_in`, with its site if asked for."""
    texts = strength_texts([fact["strength"] for fact in facts])
    return [
        f"- {markdown(fact['name'])} at {text}"
        + (f" ({fact['site']} site)" if site else "")
        + f"; {fact['domain']}"
        for fact, text in zip(facts, texts, strict=True)
    ]


@contextlib.contextmanager
def fresh_folder(path: str | PathLike[str], *, force: bool) -> Iterator[Path]:
    """A folder to fill, moved to `path` at the end or removed if anything fails.

    Raises:
        InputError: `path` exists; only an earlier export is replaced, and only by `force`.
    """
    check_free(path, force=force)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as folder:
        yield folder
        (folder / MARK).write_text("lmsteer export may replace this folder with --force\n")


def check_free(path: str | PathLike[str], *, force: bool) -> None:
    """Raise InputError where `fresh_folder` would; call it before long work."""
    target = Path(path)
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not (target / MARK).is_file():
        raise InputError(
            f"{target} exists and is not an export, so it is left alone; choose another name"
        )
    if not force:
        raise InputError(
            f"{target} exists already; choose another name, or replace it with force=True (--force)"
        )
