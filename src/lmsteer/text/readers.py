"""Labelled text from files: JSONL, CSV, TSV, Hugging Face datasets, standard input."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any

from ..errors import InputError, MissingExtraError, NotFoundError
from .example import Example

FORMATS = ("jsonl", "csv", "tsv")
BUNDLED = "bundled:"
DATASET = "hf:"


def read_examples(
    path: str | PathLike[str],
    *,
    text: str = "text",
    label: str | Sequence[str] = "label",
    prompt: str | None = None,
    positive: str | None = None,
    negative: str | None = None,
    scale: tuple[float, float] | None = None,
    format: str | None = None,
    split: str = "train",
) -> list[Example]:
    """Read labelled texts, one per row.

    Args:
        path: A ``.jsonl``, ``.csv`` or ``.tsv`` file; ``-`` for standard input; ``hf:NAME`` for
            a data set of the Hugging Face Hub or a local folder of one (extra ``datasets``);
            ``bundled:sentiment`` or ``bundled:politeness``, which come with the package.
        text: The column of the text.
        label: The column of the label. Several columns give each example a tuple of labels, for
            `train_jointly`; an empty cell then means 0: the style does not apply to this text.
        prompt: The column of the prompt; by default the column "prompt", if there is one.
        positive: The value of the label that stands for +1; give `negative` too.
        negative: The value of the label that stands for -1.
        scale: The lowest and the highest grade, such as ``(0, 4)``, which become -1 and +1; grades
            between them are mapped linearly.
        format: ``jsonl``, ``csv`` or ``tsv``; by default the file's ending decides.
        split: The split of a ``hf:`` data set.

    Raises:
        InputError: An empty file, a missing column, a label that cannot be mapped, empty text;
            the message names the row.
        NotFoundError: There is no such file.
    """
    if (positive is None) != (negative is None):
        raise InputError("positive= and negative= must be given together")
    to_label = _label_reader(positive, negative, scale)
    several = not isinstance(label, str)
    columns = [label] if isinstance(label, str) else list(label)
    examples: list[Example] = []
    for number, row in _rows(str(path), format, split):
        where = f"{path}, row {number}"
        for column in (text, *columns, *([prompt] if prompt else [])):
            is_blank = several and column in columns and column in row
            if column not in row or (row[column] is None and not is_blank):
                raise InputError(
                    f"{where}: no value in column {column!r}; this row has: "
                    f"{', '.join(map(repr, row)) or 'nothing'}. Name other columns with "
                    "text=, label= and prompt= (--text, --label, --prompt-column)"
                )
        try:
            before = row.get(prompt or "prompt") or ""
            cells = [row[column] for column in columns]
            if several:
                labels = tuple(0.0 if c is None or c == "" else to_label(c) for c in cells)
                examples.append(Example(str(row[text]), labels, str(before)))
            else:
                examples.append(Example(str(row[text]), to_label(*cells), str(before)))
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
    if not examples:
        raise InputError(f"{path} holds no rows; expected one labelled text per row")
    found = [set(values) for values in zip(*(e.labels for e in examples), strict=True)]
    if scale is None and positive is None and {0.0, 1.0} in found and not several:
        raise InputError(
            f"{path}: the labels are 0 and 1, and 0 would mean neutral. If 0 is the negative "
            "class, say scale=(0, 1) (--scale 0 1)"
        )
    return examples


def _label_reader(
    positive: str | None, negative: str | None, scale: tuple[float, float] | None
) -> Callable[[Any], float]:
    if scale is not None and not scale[0] < scale[1]:
        raise InputError(f"scale must be (lowest, highest) with lowest < highest, was: {scale}")

    def to_label(value: Any) -> float:
        if positive is not None:
            if str(value) == positive:
                return 1.0
            if str(value) == negative:
                return -1.0
            raise InputError(
                f"label {value!r} is neither the positive class {positive!r} nor the negative "
                f"class {negative!r}"
            )
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise InputError(
                f"label {value!r} is not a number; map class names with positive= and negative= "
                "(--positive NAME --negative NAME)"
            ) from None
        if scale is None:
            return number  # Example checks the range
        low, high = scale
        if not low <= number <= high:
            raise InputError(f"label {number} lies outside scale=({low}, {high})")
        return 2.0 * (number - low) / (high - low) - 1.0

    return to_label


def _rows(path: str, format: str | None, split: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if path.startswith(DATASET):
        return enumerate(_dataset(path.removeprefix(DATASET), split), start=1)
    if path == "-":
        return _parse(sys.stdin.read(), format or "jsonl", path)
    if path.startswith(BUNDLED):
        name = path.removeprefix(BUNDLED)
        file: Any = resources.files("lmsteer") / "assets" / "texts" / f"{name}.jsonl"
        if name == "prompts" or not file.is_file():
            raise NotFoundError(f"no bundled examples {name!r}; there are: sentiment, politeness")
        return _parse(file.read_text(encoding="utf-8"), "jsonl", path)
    file = Path(path)
    if not file.is_file():
        raise NotFoundError(f"no file {path}; expected a .jsonl, .csv or .tsv file, - or hf:NAME")
    ending = format or file.suffix.lstrip(".").lower().replace("ndjson", "jsonl")
    try:
        return _parse(file.read_text(encoding="utf-8-sig"), ending, path)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8") from error


def _parse(content: str, format: str, path: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if format not in FORMATS:
        raise InputError(
            f"{path}: unknown format {format!r}; expected one of {', '.join(FORMATS)} "
            "(say which with format= or --format)"
        )
    if format == "jsonl":
        return _json_rows(content, path)
    delimiter = "," if format == "csv" else "\t"
    table = csv.DictReader(io.StringIO(content, newline=""), delimiter=delimiter)
    return enumerate(_without_surplus(table), start=1)


def _without_surplus(table: Iterable[dict[Any, Any]]) -> Iterator[Mapping[str, Any]]:
    for row in table:
        row.pop(None, None)  # cells beyond the header
        yield row


def _json_rows(content: str, path: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    # Not splitlines(): text may hold U+2028 and the like unescaped.
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}, row {number}: not JSON ({error.msg})") from error
        if not isinstance(row, dict):
            raise InputError(f"{path}, row {number}: expected a JSON object, was: {line[:40]!r}")
        yield number, row


def _dataset(name: str, split: str) -> Iterable[Mapping[str, Any]]:
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError("datasets", "datasets", f"reading hf:{name}") from error
    try:
        found: Iterable[Mapping[str, Any]] = datasets.load_dataset(name, split=split)
        return found
    except Exception as error:
        # The library raises anything from ValueError to HTTP errors; all mean the same here.
        raise NotFoundError(
            f"could not load the data set {name!r}, split {split!r}: {error}"
        ) from error


def read_prompts(path: str | PathLike[str]) -> list[str]:
    """Read prompts from a file: one per line, or JSONL with a ``prompt`` column (a string, or an
    object with ``text``), or ``bundled:SET`` with SET one of neutral, positive, negative, request.

    Raises:
        InputError: There is no prompt in it.
        NotFoundError: There is no such file or set.
    """
    path = str(path)
    if path.startswith(BUNDLED):
        wanted = path.removeprefix(BUNDLED)
        file = resources.files("lmsteer") / "assets" / "texts" / "prompts.jsonl"
        rows = _json_rows(file.read_text(encoding="utf-8"), path)
        prompts = [row["prompt"] for _, row in rows if row["set"] == wanted]
        if not prompts:
            raise NotFoundError(
                f"no bundled prompts {wanted!r}; there are: neutral, positive, negative, request"
            )
        return prompts
    if path == "-":
        content = sys.stdin.read()
    elif Path(path).is_file():
        content = Path(path).read_text(encoding="utf-8-sig")
    else:
        raise NotFoundError(f"no file {path} to read prompts from")
    if path.endswith(".jsonl"):
        cells = [row.get("prompt") for _, row in _json_rows(content, path)]
        prompts = [cell["text"] if isinstance(cell, dict) else str(cell or "") for cell in cells]
    else:
        prompts = [line.rstrip("\r") for line in content.split("\n")]
    prompts = [prompt for prompt in prompts if prompt.strip()]
    if not prompts:
        raise InputError(
            f"{path} holds no prompts; expected one per line, or JSONL with a 'prompt'"
        )
    return prompts
