"""The Python in README and docs runs, each page's blocks in order, on the small bundled model."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"(?P<not_run><!-- not run: .+? -->\n)?```python\n(?P<code>.*?)```", re.S)
PAGES = [
    page
    for page in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").glob("*.md")),
    )
    if "```python" in page.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    """A block that needs what is not here says so in a comment before it, and is only compiled."""
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        text = block["code"].replace('load_model("bundled")', 'load_model("bundled-small")')
        code = compile(text, f"{page.name}: {text.splitlines()[0]}", "exec")
        if not block["not_run"]:
            exec(code, names)
