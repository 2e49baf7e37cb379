"""Files of results, as small as the tables and figures that are drawn from them need.

Numbers have ten digits, with which tables and figures come out as with all of them, and lines are
filled. An estimate is the list ``[value, count, low, high]``: `Estimate(*found)` reads it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmsteer.metrics.estimates import Estimate

WIDTH = 110


def write_results(path: Path, plain: Mapping[str, Any]) -> None:
    """Write a result as JSON; its folder is made if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_text(_short(plain)) + "\n", encoding="utf-8")


def read_results(path: Path) -> dict[str, Any]:
    """What `write_results` wrote."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _short(value: Any) -> Any:
    """The value with ten digits in each number; estimates become lists."""
    if isinstance(value, Estimate):
        value = [value.value, value.count, value.low, value.high]
    if isinstance(value, Mapping):
        return {key: _short(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_short(part) for part in value]
    return float(f"{value:.10g}") if isinstance(value, float) else value


def _text(value: Any, depth: int = 0) -> str:
    flat = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or depth + len(flat) <= WIDTH:
        return flat
    inner = " " * (depth + 1)
    if isinstance(value, dict):
        parts = [
            f"{json.dumps(key, ensure_ascii=False)}: {_text(part, depth + 1)}"
            for key, part in value.items()
        ]
    else:
        parts = [_text(part, depth + 1) for part in value]
    lines = parts[:1]
    for before, part in itertools.pairwise(parts):
        fits = depth + len(lines[-1]) + len(part) < WIDTH
        if fits and "\n" not in before + part:
            lines[-1] += f", {part}"
        else:
            lines.append(part)
    first, last = "{}" if isinstance(value, dict) else "[]"
    return f"{first}\n{inner}" + f",\n{inner}".join(lines) + f"\n{' ' * depth}{last}"
