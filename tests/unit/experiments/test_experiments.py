"""Experiments and benchmarks are packages: every import and every command in the docs exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPTS = [p for room in ("experiments", "benchmarks") for p in (ROOT / room).rglob("*.py")]
PAGES = [
    *SCRIPTS,
    *(ROOT / "src").rglob("*.py"),
    *(ROOT / "src").rglob("*.md"),
    *(ROOT / "experiments").rglob("*.md"),
    *(ROOT / "benchmarks").rglob("*.md"),
    *(ROOT / "docs").glob("*.md"),
    *ROOT.glob("*.md"),
]


def exists(module):
    path = ROOT.joinpath(*module.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_scripts_import_by_their_packages(path):
    text = path.read_text()
    assert "sys.path" not in text
    assert (path.parent / "__init__.py").is_file()
    beside = {p.stem for p in path.parent.glob("*.py")} - {"__init__"}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and not node.level:
            if node.module.split(".")[0] in ("experiments", "benchmarks"):
                assert exists(node.module), node.module
            else:
                assert node.module not in beside, f"{node.module} is not imported by its package"


def test_every_command_of_the_docs_exists():
    found = set()
    for path in PAGES:
        text = path.read_text()
        assert not re.search(r"python \S*(experiments|benchmarks)/", text), path
        found |= set(re.findall(r"python -m ((?:experiments|benchmarks)(?:\.\w+)*)", text))
    assert {"benchmarks", "experiments.paper.tables"} <= found
    # The loop over several scripts, and the pattern of all commands, end before the name.
    missing = {name for name in found if not exists(name)}
    assert missing <= {"experiments.FOLDER.SCRIPT"}, missing
