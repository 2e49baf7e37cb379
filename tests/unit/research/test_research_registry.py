"""The registry of research methods: a method is one file, and nothing else knows its name."""

import ast
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from lmsteer.errors import InputError, MissingExtraError
from lmsteer.research import methods
from lmsteer.research.comparison import Settings, compare, method_names
from lmsteer.research.methods import Method, load_methods

ROOT = Path(__file__).parents[3]
TINY = Settings(samples=1, tokens=2)


def longer(texts):
    return np.array([len(t.split()) - 1.5 for t in texts])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A further folder of methods, as if its files lay in research/methods."""
    known = set(sys.modules)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    yield tmp_path
    for name in set(sys.modules) - known:
        if name.startswith("lmsteer.research.methods."):
            del sys.modules[name]
            vars(methods).pop(name.rpartition(".")[2], None)


def test_the_method_of_the_contributing_page_is_one_file(folder, llama, tokenizer, examples):
    diffs = re.findall(r"```diff\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    (diff,) = [diff for diff in diffs if "research/methods" in diff]
    head, *lines = diff.splitlines()
    assert (head, lines[0]) == ("--- /dev/null", "+++ b/src/lmsteer/research/methods/counts.py")
    assert lines[1] == f"@@ -0,0 +1,{len(lines) - 2} @@"
    assert all(line.startswith("+") for line in lines[2:])
    (folder / "counts.py").write_text("".join(line[1:] + "\n" for line in lines[2:]))
    assert method_names(["all"]) == [*load_methods()]
    assert method_names(["all"])[-1] == "counts"
    assert "counts" not in method_names(["paper"])
    (row,) = compare(
        llama, tokenizer, ["counts"], examples, ["it is"], {"long": longer}, settings=TINY
    )
    assert (row.name, row.parameters) == ("counts", 259)
    assert set(row.figures) == {"+1", "-1", "+0.5", "-0.5"}
    # It does what it says: the words of either side become likelier.
    method = load_methods()["counts"].fit(llama, tokenizer, examples)
    assert method.odds.max() > 0.5 > -0.5 > method.odds.min()


DECLARED = """
from lmsteer.research.methods.method import Method

class Slow(Method):
    name, source = "crawl", "ours"
    slow, clock_prompts, order, in_paper, fit_options = True, 1, 5, True, ("pace",)
    parameters = 1
    seen = []
    def __init__(self, pace): self.seen.append(pace)
    @classmethod
    def fit(cls, model, tokenizer, examples, *, pace=None, seed=0, progress=None):
        return cls(pace)
    def attach(self, model, strength):
        import contextlib
        return contextlib.nullcontext(model)
"""


def test_what_a_method_declares_is_heeded(folder, llama, tokenizer, examples):
    (folder / "slow.py").write_text(DECLARED)
    assert method_names(["paper"])[0] == method_names(["all"])[0] == "crawl"
    settings = Settings(samples=1, tokens=2, slow_count=1, options={"pace": 3})
    crawl, swb = compare(
        llama,
        tokenizer,
        ["crawl", "swb"],
        examples,
        ["it is", "so"],
        {"long": longer},
        signs=[1],
        settings=settings,
    )
    assert (crawl.prompts, swb.prompts) == (1, 2)
    assert load_methods()["crawl"].seen == [3]
    with pytest.raises(InputError, match="none of these methods takes pace: swb"):
        compare(llama, tokenizer, ["swb"], examples, ["so"], {"long": longer}, settings=settings)


def test_two_methods_of_one_name_are_refused(folder):
    (folder / "slow.py").write_text(DECLARED)
    (folder / "slower.py").write_text(DECLARED)
    with pytest.raises(TypeError, match=r"methods\.slow and .*slower both hold .*'crawl'"):
        load_methods()


def test_a_package_that_is_missing_is_named_before_long_work(llama, tokenizer, monkeypatch):
    monkeypatch.setattr("lmsteer.research.comparison.choosing.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"'lora' needs .*lmsteer\[peft\]"):
        compare(llama, tokenizer, ["swb", "lora"], [], ["so"], {"long": longer}, settings=TINY)


def test_names_are_those_asked_for():
    assert method_names(["swb", "./mine"]) == ["swb", "./mine"]
    # What is named twice, alone and by a set, is compared once.
    assert method_names(["paper", "swb", "all"]).count("swb") == 1
    assert method_names(["paper"]) == [
        *("lm-steer", "swb", "lora", "dapt", "dexperts", "gedi", "pplm", "instruction")
    ]


def test_nothing_but_its_file_knows_a_method():
    names, source = set(load_methods()), ROOT / "src" / "lmsteer"
    classes = {method.__name__ for method in load_methods().values()}
    for room in ("research/comparison", "research/evaluation", "cli"):
        for path in (source / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant):
                    assert node.value not in names, f"{path}: {node.value}"
                if isinstance(node, ast.Name | ast.alias):
                    word = node.id if isinstance(node, ast.Name) else node.name
                    assert word not in classes, f"{path}: {word}"


def test_every_method_tells_what_it_is():
    for name, method in load_methods().items():
        assert issubclass(method, Method)
        assert method.source, name
        assert list(method.strengths) == sorted(method.strengths), name
        assert method.__doc__, name
