"""The house: few rooms, imports that point one way, one room that touches a model."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "lmsteer"
# A room may import those of the floors before its own, from their faces, and no other.
FLOORS = [
    {"errors", "assets"},
    {"steer"},
    {"text", "model"},
    {"figures", "states"},
    {"training", "generation", "storage"},
    {"metrics"},
    {"recipes"},
    {"alignment", "interpretation", "export"},
    {"engines", "research"},
    {"cli"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# Research has rooms of its own, in the same way.
FLOORS_OF_RESEARCH = [{"evaluation", "theory"}, {"methods"}, {"comparison"}]
FLOOR |= {
    f"research.{room}": FLOOR["research"] + (number + 1) / 10
    for number, rooms in enumerate(FLOORS_OF_RESEARCH)
    for room in rooms
}
MOST_ENTRIES = 20
MOST_LINES = 250
MOST_LINES_OF_A_BODY = 80


def name_of(path):
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in SOURCE.rglob("*.py")}
TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}


def imports(name):
    """Every module of ours that a file imports, at its top, in a function or for types alone."""
    package = name.split(".") if FILES[name].name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [p for p in package if p][: len(package) - node.level + 1]
            target = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                whole = f"{target}.{alias.name}".strip(".")
                yield whole if whole in FILES else target
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
            for found in names:
                if found.split(".")[0] == "lmsteer":
                    yield found.removeprefix("lmsteer").strip(".")


def room_of(name):
    parts = name.split(".")
    return ".".join(parts[: 2 if parts[0] == "research" else 1])


@pytest.mark.parametrize("name", [name for name in FILES if name])
def test_imports_point_one_way(name):
    mine = room_of(name)
    for target in imports(name):
        room = room_of(target)
        assert target, f"{name} imports the package itself: name the room that it needs"
        if room != mine:
            assert FLOOR[room] < FLOOR[mine], f"{name} imports {target}"
            assert target == room, f"{name} imports {target}: rooms are entered by their face"


def test_no_two_files_import_each_other():
    graph = {name: set(imports(name)) - {name} for name in FILES}
    order = list(graph)
    while order:
        free = [name for name in order if not graph[name] & set(order)]
        assert free, f"a circle among {order}"
        order = [name for name in order if name not in free]


def test_the_house_is_small_enough_to_walk():
    entries = [p.name for p in SOURCE.iterdir() if p.name != "__pycache__"]
    assert len(entries) <= MOST_ENTRIES, entries
    rooms = {e.removesuffix(".py") for e in entries} - {"__init__", "py.typed"}
    assert rooms == {room for room in FLOOR if "." not in room}
    for name, path in FILES.items():
        lines = len(path.read_text().splitlines())
        assert lines <= MOST_LINES, f"{name} has {lines} lines"
        for node in ast.walk(TREES[name]):
            if isinstance(node, ast.FunctionDef):
                has_doc = ast.get_docstring(node) is not None
                body = node.body[1:] if has_doc and len(node.body) > 1 else node.body
                lines = node.end_lineno - body[0].lineno + 1
                assert lines <= MOST_LINES_OF_A_BODY, f"{name}.{node.name} has {lines} lines"


def test_the_tests_of_a_room_are_in_a_folder_of_its_name():
    for folder in Path(__file__).parent.iterdir():
        if folder.is_dir() and folder.name != "__pycache__":
            assert folder.name in FLOOR or folder.name == "experiments", folder


def test_no_function_hides_a_module():
    for name in FILES:
        if name.endswith("__main__") or name.startswith("engines."):
            continue  # a program; what needs an engine that may not be here
        module = importlib.import_module(f"lmsteer.{name}".rstrip("."))
        parent, _, leaf = module.__name__.rpartition(".")
        if parent:
            assert getattr(importlib.import_module(parent), leaf) is module, module.__name__


def test_only_the_command_line_prints():
    for name, path in FILES.items():
        if not name.startswith("cli"):
            assert not re.search(r"(?<![\w.])print\(", path.read_text()), name


def test_one_room_hooks_a_model():
    for name, path in FILES.items():
        # Methods that act elsewhere hook elsewhere, by nature.
        if room_of(name) not in {"model", "research.methods"}:
            assert "register_forward" not in path.read_text(), name


def test_a_record_is_provenance_that_one_file_reads():
    """Elsewhere a steer's record is passed on whole, or shown through `read_provenance`."""
    for name, path in FILES.items():
        found = re.search(r"\.record(\[|\.get\(|\.items\(|\.pop\()", path.read_text())
        assert not found, f"{name}: {found and found[0]}"


def test_what_reaches_the_terminal_goes_through_one_file():
    """`display` escapes; a plain print, a console or JSON of one's own would not."""
    for path in (SOURCE / "cli").rglob("*.py"):
        if path.name != "display.py":
            found = re.search(
                r"(?<![\w.])print\(|Console\(|json\.dumps?\(|sys\.std", path.read_text()
            )
            assert not found, f"{path}: {found and found[0]}"


def test_import_is_quick():
    """A quarter of what torch itself takes (0.17 measured); a slow machine slows both alike."""
    code = (
        "import sys, time; t = time.process_time(); import torch; u = time.process_time(); "
        "import lmsteer; print((time.process_time() - u) / (u - t)); "
        "heavy = {'transformers', 'scipy', 'sklearn', 'rich', 'typer', 'gguf'}; "
        "assert not heavy & set(sys.modules)"
    )
    ratios = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(5)
    ]
    assert min(ratios) < 0.25
