"""The house: imports point one way, and importing it is quick."""

import ast
import re
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "lmsteer"
FLOORS = [
    {
        "errors",
        "escaping",
        "naming",
        "steer",
        "strengths",
        "card",
        "plotting",
        "workers",
        "wrappers",
        "sketch",
    },
    {
        "head",
        "attachment",
        "composition",
        "examples",
        "split",
        "batches",
        "encoding",
        "readers",
        "models",
        "cache",
        "states",
    },
    {"storage", "hub", "official", "hidden"},
    {"training", "generation", "merging"},
    {"metrics"},
    {"calibration", "self_training"},
    {"alignment", "interpretation"},
    {"evaluation"},
    {"baselines"},
    {"comparison"},
    {"theory", "export", "engines"},
    {"cli"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def test_imports_point_one_way():
    wrong = []
    for path in SOURCE.rglob("*.py"):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        if parts[0] == "__init__":
            continue
        body = ast.parse(path.read_text()).body  # function-level imports are deliberate
        for node in body:
            if isinstance(node, ast.ImportFrom) and node.level:
                target = (*parts[: len(parts) - node.level], *(node.module or "").split("."))
                room = next(part for part in (*target, parts[0]) if part)
                if FLOOR[room] > FLOOR[parts[0]]:
                    wrong.append(f"{'/'.join(parts)} imports {room}")
    assert not wrong


def test_only_the_command_line_prints_and_only_attachment_and_baselines_hook():
    for path in SOURCE.rglob("*.py"):
        text = path.read_text()
        if "cli" not in path.parts:
            assert not re.search(r"(?<![\w.])print\(", text), path
        # Baselines act elsewhere by nature.
        if not {"attachment", "baselines"} & set(path.parts):
            assert "register_forward" not in text, path


def test_what_reaches_the_terminal_goes_through_one_room():
    """`display` escapes; a plain print, a console or JSON of one's own would not."""
    for path in (SOURCE / "cli").rglob("*.py"):
        if path.name != "display.py":
            found = re.search(
                r"(?<![\w.])print\(|Console\(|json\.dumps?\(|sys\.std", path.read_text()
            )
            assert not found, f"{path}: {found and found[0]}"


def test_import_is_quick():
    code = (
        "import torch, time; t = time.process_time(); import lmsteer, sys; "
        "print(time.process_time() - t); assert 'transformers' not in sys.modules"
    )
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(times) < 0.3
