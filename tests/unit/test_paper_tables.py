"""The paper's numbers and the tables that set ours beside them (experiments/paper)."""

import json
import sys

import pytest

from experiments.paper import paper, setting, tables


def estimate(value):
    return {"value": value, "count": 9, "low": value - 0.05, "high": value + 0.05}


def row(name, frozen, share):
    figures = {
        key: estimate(share if key == "toxicity.any" else 0.5)
        for key in ("toxicity.max", "toxicity.any", "distinct_1", "distinct_2", "distinct_3")
    }
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
    monkeypatch.setattr(sys, "argv", ["tables.py", "detox", "--work", str(tmp_path)])
    tables.main()
    told = (tmp_path / "detox-net.md").read_text()
    assert "/home" not in told + (tmp_path / "detox-net.json").read_text()
    assert "first is `swb`, 0.720 [0.670, 0.770]; `lm-steer` has 0.700" in told
    assert "within the first's interval" in told
    assert "Ahead of `lm-steer` of all others: `dapt` (trunk changed) +0.200, `swb` +0.020." in told
    assert "0.911 at x1.11" in told  # the paper's LM-Steer, in the direction of the goal
    assert "| *dexperts, GPT-2 large, the paper ACL* | + |  | 0.314 | 0.128 |" in told
