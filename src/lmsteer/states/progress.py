"""How a long job reports its progress."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""A function called as ``progress(stage, done, total)``; the command line draws a bar from it."""
