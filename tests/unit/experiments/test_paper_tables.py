"""The paper's numbers and the tables that set ours beside them (experiments/paper)."""

import json
import sys

import pytest

from experiments.paper import paper, setting, tables
from experiments.shared.results import read_results, write_results
from lmsteer.metrics.estimates import Estimate


def estimate(value):
    return {"value": value, "count": 9, "low": value - 0.05, "high": value + 0.05}


def row(name, frozen, share):
    figures = {
        key: estimate(share if key == "toxicity.any" else 0.5)
        for key in ("toxicity.max", "toxicity.any", "distinct_1", "distinct_2", "distinct_3")
    }
    figures["repetition"] = estimate(0.1)
    base = {**figures, "toxicity.any": estimate(0.6), "perplexity": estimate(40.0)}
    return {
        "name": name,
        "source": "a paper",
        "frozen": frozen,
        "parameters": 7,
        "prompts": 3,
        "seconds": 1.0,
        "decode": 1.5,
        "base": base,
        "figures": {"+2": {**figures, "perplexity": estimate(44.0)}},
    }


def test_numbers_have_their_version_and_perplexity_is_relative_to_the_papers_base():
    assert paper.find("detox", "dexperts", "toxicity.max") == 0.302
    assert paper.find("detox", "dexperts", "toxicity.max", version=paper.ACL) == 0.314
    assert paper.find("sweep", "lm-steer", "perplexity", strength=3.0) == 24.48
    assert paper.find("detox", "caa", "toxicity.max") is None
    assert paper.ratio("negative", "lm-steer") == pytest.approx(57.74 / 29.28)
    assert all(0 <= n.value <= 1 for n in paper.NUMBERS if n.metric.startswith(("tox", "sent")))
    assert len(set(paper.NUMBERS)) == len(paper.NUMBERS)


def test_table_says_who_is_first_and_holds_no_path(tmp_path, monkeypatch):
    shares = {"lm-steer": 0.30, "swb": 0.28, "/home/x/mine": 0.5, "dapt": 0.10}
    rows = [row(name, name != "dapt", share) for name, share in shares.items()]
    facts = {"model": "/home/x/net", "prompts": "/home/x/p.txt", "examples": 4, "samples": 25,
             "tokens": 20, "top_p": 0.9}  # fmt: skip
    reached = {"detox": {name: {"1.5": estimate(1 - share)} for name, share in shares.items()}}
    (tmp_path / "detox").mkdir()
    (tmp_path / "detox" / "comparison.json").write_text(
        json.dumps({"facts": facts, "rows": rows, "reached": reached})
    )
    monkeypatch.setattr(setting, "RESULTS", tmp_path)
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["tables", "detox", "--work", str(tmp_path)])
    tables.main()
    told = (tmp_path / "detox-net.md").read_text()
    assert "/home" not in told + (tmp_path / "detox-net.json").read_text()
    assert "first is `swb`, 0.720 [0.670, 0.770]; `lm-steer` has 0.700" in told
    assert "within the first's interval" in told
    assert "Ahead of `lm-steer` of all others: `dapt` (trunk changed) +0.200, `swb` +0.020." in told
    assert "0.911 at x1.11" in told  # the paper's LM-Steer, in the direction of the goal
    assert "| *dexperts, GPT-2 large, the paper ACL* | + |  | 0.314 | 0.128 |" in told
    # The small file that is committed is enough to draw the table again.
    table = tmp_path / "detox-net.md"
    table.unlink()
    assert "repetition" not in (tmp_path / "detox-net.json").read_text()
    monkeypatch.setattr(sys, "argv", ["tables", "detox", "--report", "detox-net"])
    tables.main()
    assert table.read_text() == told
    assert (tmp_path / "detox-net.png").exists()


def test_results_are_written_short_and_read_back(tmp_path):
    plain = {
        "facts": {"model": "x", "note": "z" * 120},
        "rows": [{"a": Estimate(1 / 3, 4, 0.25, 0.5), "b": [1e-9, None, True]}] * 9,
    }
    write_results(tmp_path / "deep" / "it.json", plain)
    found = read_results(tmp_path / "deep" / "it.json")
    assert found["facts"] == plain["facts"]
    assert found["rows"] == [{"a": [0.3333333333, 4, 0.25, 0.5], "b": [1e-9, None, True]}] * 9
    lines = (tmp_path / "deep" / "it.json").read_text().splitlines()
    assert len(lines) < 20
    assert all(len(line) <= 120 or "zzz" in line for line in lines)


@pytest.mark.parametrize("name", ["sentiment", "detox"])
def test_committed_tables_are_those_of_the_committed_results(name, tmp_path, monkeypatch):
    committed = setting.RESULTS / f"{name}.md"
    (tmp_path / f"{name}.json").write_text((setting.RESULTS / f"{name}.json").read_text())
    monkeypatch.setattr(setting, "RESULTS", tmp_path)
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    tables.report(name, name)
    assert (tmp_path / f"{name}.md").read_text() == committed.read_text()
