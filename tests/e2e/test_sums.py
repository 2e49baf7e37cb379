"""Sums by hand: read on two days, one text withdrawn, solved, and written with."""

import csv
import json

import pytest

from lmsteer import load_steer, read_examples
from lmsteer.cli.app import main


def run(*words):
    with pytest.raises(SystemExit) as stopped:
        main([*map(str, words)])
    return stopped.value.code


@pytest.fixture
def days(tmp_path):
    """Three files of labelled texts."""
    examples = read_examples("bundled:sentiment")[:90]
    for number in range(3):
        with (tmp_path / f"day{number}.csv").open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["text", "label"])
            rows.writerows([e.text, e.label] for e in examples[number::3])
    return tmp_path


def test_a_steer_is_solved_from_sums(days, capsys, monkeypatch):
    monkeypatch.chdir(days)
    for number in range(3):
        assert 0 == run("statistics", f"day{number}.csv", "--no-fast", "--out", f"sums{number}")
    capsys.readouterr()
    assert 0 == run(
        "solve", "sums0", "sums1", "--no-calibrate", "--out", "two", "--ridge", 3, "--rank", 8
    )
    assert 0 == run(
        *("solve", "sums0", "sums1", "sums2", "--without", "sums2", "--no-calibrate"),
        *("--out", "again", "--ridge", 3, "--rank", 8, "--json"),
    )
    told = json.loads(capsys.readouterr().out)
    assert told["record"]["statistics"]["texts"] == 60
    from lmsteer import load_model

    model, _ = load_model("bundled")
    two, again = (load_steer(name, model).matrix() for name in ("two", "again"))
    assert (two - again).norm() < 1e-5 * two.norm()
    assert 0 == run("solve", "sums0", "sums1", "sums2", "--out", "all")
    assert load_steer("all", model).calibration is not None
    assert 0 == run("solve", "sums0", "sums1", "--half-life", 1, "--no-calibrate", "--out", "newer")
    capsys.readouterr()
    assert 0 == run("generate", "all=2", "--prompt", "The film was", "--json")
    assert json.loads(capsys.readouterr().out)


def test_mistakes_are_told_before_work(days, capsys, monkeypatch):
    monkeypatch.chdir(days)
    (days / "mine").mkdir()
    (days / "mine" / "notes").write_text("")
    for words, said in (
        (("statistics", "day0.csv", "--out", "mine"), "not a folder of statistics"),
        (("statistics", "day0.csv", "--sampled", 9, "--out", "x"), "multiple of 8"),
        (("solve", "nothing", "--out", "x"), "no statistics"),
        (("solve", "mine", "--out", "x"), "no statistics.json"),
        (("solve", "mine", "--half-life", 0, "--out", "x"), "half-life"),
    ):
        assert run(*words) == 2
        assert said in " ".join(capsys.readouterr().err.split())
