"""Last of all: docs/engines-tested.md is written from what the tests before this one found."""

from pathlib import Path

import pytest
from shapes import SHAPES

TABLE = Path(__file__).parents[2] / "docs" / "engines-tested.md"


def test_the_matrix_is_up_to_date(matrix):
    """Commit the file when it changes."""
    if len(matrix) < len(SHAPES) + 28:
        pytest.skip("not every test of the engines ran before")
    lines = [
        "# Engines: what is tested",
        "Written by `make test-engines` from its own results, on tiny random models; log-probs of "
        "the whole vocabulary against `lmsteer.attach`. Folders and PEFT adapters are tested on "
        "every family of [families.md](families.md) (`tests/parity/test_exports.py`). vLLM without "
        "further words is its model runner V1; V2 ran on a CPU, its kernels by Triton's "
        "interpreter.",
        "",
        "| engine | model, or way of running | |",
        "|---|---|---|",
    ]
    lines += [f"| {engine} | {what} | {how} |" for (engine, what), how in sorted(matrix.items())]
    text = "\n".join(lines) + "\n"
    before = TABLE.read_text() if TABLE.is_file() else ""
    TABLE.write_text(text)
    assert before == text, f"{TABLE.name} was out of date; it has been written anew"
