"""The prompts that ``--prompts`` and ``--count`` ask for."""

from __future__ import annotations

from collections.abc import Sequence

from ..text import read_prompts


def read_files(files: Sequence[str], count: int | None = None) -> list[str]:
    """The first prompts of several files, one file after another.

    Args:
        files: See `lmsteer.read_prompts`.
        count: How many prompts are taken in all; None takes all.
    """
    return [prompt for file in files for prompt in read_prompts(file)][:count]
