"""What `lmsteer compare` is given beside labelled texts: instructions, texts of no style."""

from __future__ import annotations

import csv
from pathlib import Path

from ..errors import InputError
from ..text import read_prompts


def read_instructions(given: list[str] | None) -> tuple[str, str] | None:
    """What is read before a prompt, for strength 1 and for -1; each ends with a line break.

    Raises:
        InputError: Not two of them.
    """
    if not given:
        return None
    if len(given) != 2:
        raise InputError(
            f"--instruction is given twice, for strength 1 and then for -1; got {len(given)}"
        )
    return f"{given[0].rstrip()}\n", f"{given[1].rstrip()}\n"


def read_neutral(file: Path | None) -> list[str]:
    """Texts that show what of a model is kept: one per line, or as prompts are read."""
    return read_prompts(file) if file else []


def read_sentences(file: Path | None) -> tuple[list[str], list[bool]]:
    """Sentences, and whether each is acceptable.

    Args:
        file: A table with the columns ``text`` and ``acceptable`` (0 or 1), or CoLA's own (.tsv
            without a header: source, verdict, mark, sentence).

    Raises:
        InputError: A row of another form.
    """
    if file is None:
        return [], []
    found: list[tuple[str, bool]] = []
    with file.open(encoding="utf-8", newline="") as lines:
        if file.suffix == ".tsv":
            for row in csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
                if len(row) != 4 or row[1] not in ("0", "1"):
                    raise InputError(
                        f"{file}: expected source, 0 or 1, mark and sentence with tabs "
                        f"between, as CoLA has them; got {row}"
                    )
                found.append((row[3], row[1] == "1"))
        else:
            for number, named in enumerate(csv.DictReader(lines), start=2):
                if named.get("acceptable") not in ("0", "1") or not named.get("text"):
                    raise InputError(
                        f"{file}, line {number}: expected the columns text and acceptable (0 or 1)"
                    )
                found.append((named["text"], named["acceptable"] == "1"))
    return [text for text, _ in found], [good for _, good in found]
