"""What every export says of itself, and where it may write."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from ..steer import Steer, labels, strength_texts
from ..storage import MARK, check_place, writing
from ..text import markdown


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
    """A folder to fill, whose files are moved to `path` together at the end, or not at all.

    Of an earlier export the files that are not written again are removed; others never are.

    Raises:
        InputError: `path` exists; only an earlier export is replaced, and only by `force`.
    """
    with writing(path, lambda: check_free(path, force=force), listed=True) as folder:
        yield folder


def check_free(path: str | PathLike[str], *, force: bool) -> None:
    """Raise InputError where `fresh_folder` would; call it before long work."""
    check_place(path, MARK, "an export", force=force)
