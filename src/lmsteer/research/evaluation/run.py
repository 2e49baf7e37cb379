"""Long generation that can be interrupted: records go to disk as they come."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ...errors import ArtefactError, InputError
from ...generation import Generation
from ...states import Progress
from ...storage import is_free, working, write_file

SETTINGS, RECORDS = "settings.json", "records.jsonl"
FORMAT = 2
"""Of records on disk: 1 did not say which mapping of strengths a record belongs to."""


def resumable(
    folder: Path,
    settings: dict[str, Any],
    prompts: Sequence[str],
    write: Callable[[Sequence[str]], list[Generation]],
    *,
    records_a_prompt: int,
    force: bool = False,
    prompts_a_part: int = 8,
    progress: Progress | None = None,
) -> list[Generation]:
    """Records for all prompts; those that an earlier run left in `folder` are not written again.

    Args:
        folder: Holds `SETTINGS` and `RECORDS`; made if it is missing.
        settings: All that the records depend on, JSON-like: model, steers, strengths, seed, ...
        prompts: In order; repeats are written once.
        write: Makes the records of some prompts.
        records_a_prompt: How many that is for each; a prompt with fewer is written again.
        force: Begin anew in a folder of other settings.
        prompts_a_part: At most so many prompts are lost by an interruption.
        progress: Called as ``progress("prompts", done, total)``.

    Raises:
        InputError: `folder` holds a run of other settings, or something else.
        ArtefactError: Records on disk that cannot be read.
    """
    prompts = list(dict.fromkeys(prompts))
    with working(folder):  # one process appends
        found = _found(folder, settings, records_a_prompt, force=force)
        done: dict[str, list[Generation]] = {}
        for record in found:
            done.setdefault(record.prompt, []).append(record)
        left = [prompt for prompt in prompts if prompt not in done]
        for start in range(0, len(left), prompts_a_part):
            if progress:
                progress("prompts", len(prompts) - len(left) + start, len(prompts))
            part = write(left[start : start + prompts_a_part])
            with (folder / RECORDS).open("a", encoding="utf-8") as file:
                file.write("".join(json.dumps(asdict(record)) + "\n" for record in part))
            for record in part:
                done.setdefault(record.prompt, []).append(record)
    if progress:
        progress("prompts", len(prompts), len(prompts))
    return [record for prompt in prompts for record in done[prompt]]


def _found(
    folder: Path, settings: dict[str, Any], records_a_prompt: int, *, force: bool
) -> list[Generation]:
    """The records of an earlier run of these settings; else none, and the folder is made ready."""
    told, kept = folder / SETTINGS, folder / RECORDS
    text = json.dumps({"format": FORMAT, **settings}, sort_keys=True, indent=1)
    if _text(told) == text:
        return _read(kept, records_a_prompt) if kept.exists() else []
    if not (is_free(folder) or (force and _is_ours(told))):
        raise InputError(
            f"{folder} exists and holds another run or something else; choose another folder, "
            "give the same options to continue that run, or begin anew with force=True (--force), "
            "which replaces another run, and nothing else"
        )
    kept.unlink(missing_ok=True)
    write_file(told, text)
    return []


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def _is_ours(told: Path) -> bool:
    """True for settings that `resumable` wrote, in this version or an earlier one."""
    try:
        found = json.loads(_text(told) or "")
    except ValueError:
        return False
    return isinstance(found, dict) and ("format" in found or {"model", "prompts"} <= found.keys())


def _read(path: Path, records_a_prompt: int) -> list[Generation]:
    """Records of the prompts that are whole; what an interruption cut off is taken off the file."""
    lines = path.read_text(encoding="utf-8").split("\n")
    rows: list[dict[str, Any]] = []
    wanted = {field.name for field in fields(Generation)}
    for number, line in enumerate(lines, start=1):
        try:
            if line:
                rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise ArtefactError(f"{path}, line {number}: not JSON; delete the file") from error
            continue
        if line and (not isinstance(rows[-1], dict) or set(rows[-1]) != wanted):
            raise ArtefactError(
                f"{path}, line {number}: expected a record with {', '.join(sorted(wanted))}; "
                "delete the file"
            )
    counts = Counter(row["prompt"] for row in rows)
    whole = [row for row in rows if counts[row["prompt"]] == records_a_prompt]
    if len(whole) < len(rows) or lines[-1]:
        write_file(path, "".join(json.dumps(row) + "\n" for row in whole))
    return [Generation(**row) for row in whole]
