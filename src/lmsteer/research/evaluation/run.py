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
"""The format of records on disk; format 1 did not say which mapping of strengths was used."""


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
    """Generate records for all prompts; those that an earlier run left in `folder` are read.

    Args:
        folder: The folder for `SETTINGS` and `RECORDS`; it is made if it is missing.
        settings: Everything that the records depend on, as JSON takes it: model, steers,
            strengths, seed and so on.
        prompts: The prompts in order; a repeated prompt is continued once.
        write: Generates the records of the prompts that it is given.
        records_a_prompt: The number of records per prompt; a prompt with fewer is continued again.
        force: Whether to begin again in a folder that holds a run of other settings.
        prompts_a_part: The most prompts that an interruption loses.
        progress: Called as ``progress("prompts", done, total)``.

    Raises:
        InputError: `folder` holds a run of other settings, or something else.
        ArtefactError: The records on disk cannot be read.
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
    settings_file, records_file = folder / SETTINGS, folder / RECORDS
    text = json.dumps({"format": FORMAT, **settings}, sort_keys=True, indent=1)
    if _text(settings_file) == text:
        return _read(records_file, records_a_prompt) if records_file.exists() else []
    if not (is_free(folder) or (force and _is_ours(settings_file))):
        raise InputError(
            f"{folder} exists and holds another run or something else; choose another folder, "
            "give the same options to continue that run, or begin anew with force=True (--force), "
            "which replaces another run, and nothing else"
        )
    records_file.unlink(missing_ok=True)
    write_file(settings_file, text)
    return []


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def _is_ours(settings_file: Path) -> bool:
    """Whether `resumable` wrote these settings, in this version or an earlier one."""
    try:
        found = json.loads(_text(settings_file) or "")
    except ValueError:
        return False
    return isinstance(found, dict) and ("format" in found or {"model", "prompts"} <= found.keys())


def _read(path: Path, records_a_prompt: int) -> list[Generation]:
    """The records of complete prompts; the file loses what an interruption cut off."""
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
