"""Steers of one name and rows of one strength, as the command line meets them."""

import json
import re
import shutil

import pytest
from terminal import outside, run, tree

FEW = ("--count", 2, "--samples", 2, "--tokens", 4, "--scorer", "vader")


def test_generate_tells_steers_of_one_name_apart(capsys, folder, moods):
    a, b = moods
    base = ["generate", "--model", folder, "--prompt", "it is", "--tokens", 3]
    code, out, err = run(capsys, *base, f"{a}=5", f"{b}=0")
    assert code == 0, err
    assert out.startswith("mood#1=+5, mood#2=+0  it is")
    options = (f"{a}=1,0", f"{b}.domain=1", f"{b}=0", "--json")
    code, out, err = run(capsys, *base, *options)
    assert code == 0, err
    rows = json.loads(out)
    assert [row["strengths"] for row in rows] == [
        {"mood#1": s, "mood.domain#2": 1.0, "mood#2": 0.0} for s in (1.0, 0.0)
    ]
    assert [row["mix"] for row in rows] == [0, 1]


def test_one_steer_given_twice_is_refused(capsys, folder, moods, tmp_path):
    a, _ = moods
    copy = shutil.copytree(a, tmp_path / "copy" / "other")
    on = ["--model", folder]
    for twice, message in (
        ((f"{a}=1", f"{a}=2"), "mood' is given twice"),
        ((f"{a}=1", f"{copy}=2"), "are one steer, given twice"),
    ):
        for command in (
            ["generate", *on, "--prompt", "a", *twice],
            ["evaluate", *on, "--out", tmp_path / "r", *FEW, *twice],
            ["compose", *twice, "--out", tmp_path / "c"],
            ["export", "peft", *twice, *on, "--out", tmp_path / "p"],
            ["grid", *on, *(spec.rpartition("=")[0] for spec in twice)],
            [
                "export",
                "gguf",
                *(s.rpartition("=")[0] for s in twice),
                *on,
                "--out",
                tmp_path / "g",
            ],
            ["explain", *(spec.rpartition("=")[0] for spec in twice), *on],
        ):
            code, _, err = run(capsys, *command)
            assert (code, message in " ".join(err.split())) == (2, True), (command, err)
    assert not (tmp_path / "c").exists()
    # Two strengths of one steer are two rows; one strength twice is two rows as well.
    strengths = [f"{a}=1,2,1,1.0000001", f"{a}.domain=0"]
    code, out, err = run(capsys, "generate", *on, "--prompt", "a", "--tokens", 2, *strengths)
    assert code == 0, err
    assert re.findall(r"mood=(\S+), mood\.domain=\+0", out) == ["+1", "+2", "+1", "+1.0000001"]


def test_evaluate_reports_each_mix_from_its_own_texts(capsys, folder, save_named, tmp_path):
    a = save_named(tmp_path / "A" / "mood", "mood", domain=False)
    b = save_named(tmp_path / "B" / "mood", "mood", domain=False)
    out_folder = tmp_path / "report"
    mixes = [f"{a}=3,0", f"{b}=0,1,1.0000001"]
    options = ["--model", folder, *mixes, "--out", out_folder, *FEW, "--prompts", "bundled:neutral"]
    code, out, err = run(capsys, "evaluate", *options, "--json")
    assert code == 0, err
    rows = json.loads(out)["rows"]["neutral"]
    assert [(row["mix"], row["strengths"]) for row in rows] == list(
        enumerate(
            [
                "mood#1 +3",
                "mood#1 +3, mood#2 +1",
                "mood#1 +3, mood#2 +1.0000001",
                "base",
                "mood#2 +1",
                "mood#2 +1.0000001",
            ]
        )
    )
    assert all(row["vader"]["count"] == 4 for row in rows)
    report = (out_folder / "report.md").read_text()
    assert report.count("| base |") == 1
    assert "| mood#1 +3 |" in report
    lines = (out_folder / "neutral/records.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [r["mix"] for r in records[:12]] == [m for m in range(6) for _ in range(2)]
    code, again, _ = run(capsys, "evaluate", *options, "--json")  # read from disk
    assert json.loads(again)["rows"]["neutral"] == rows


def test_evaluate_keeps_sets_of_prompts_of_one_name_apart(capsys, folder, moods, deep):
    for place, text in (("a", "it is"), ("b", "how very"), ("c", "so")):
        (deep / place).mkdir()
        (deep / place / "neutral.txt").write_text(f"{text}\n{text} now\n")
    (deep / "report.md.txt").write_text("a\n")
    (deep / "..txt").write_text("a\n")
    files = [f"{place}/neutral.txt" for place in "abc"]
    files += ["bundled:neutral", "report.md.txt", "..txt"]
    prompts = [part for file in files for part in ("--prompts", file)]
    options = ["--model", folder, f"{moods[0]}=1", "--out", deep / "out", *FEW]
    before = tree(deep)
    code, out, err = run(capsys, "evaluate", *options, *prompts, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert list(found["rows"]) == [*(f"neutral#{n}" for n in range(1, 5)), "report.md", "."]
    assert "neutral#2: b/neutral.txt" in found["facts"]["prompts"]
    kept = {p.parent.name for p in (deep / "out").glob("*/records.jsonl")}
    assert kept == {*(f"neutral#{n}" for n in range(1, 5)), "report.md#1", "_"}
    lines = (deep / "out" / "neutral#2" / "records.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["prompt"] == "how very"
    assert outside(deep, before, deep / "out") == set()


def test_sweep_and_grid_have_a_row_for_each_strength(capsys, folder, moods, deep):
    pytest.importorskip("matplotlib")
    a, b = moods
    options = ["--model", folder, "--from", 0, "--to", "1e-7", "--points", 3, *FEW]
    code, out, err = run(capsys, "sweep", a, *options, "--json")
    assert code == 0, err
    rows = json.loads(out)["rows"]
    assert [(row["strength"], row["texts"]) for row in rows] == [(0, 4), (5e-8, 4), (1e-7, 4)]
    code, out, err = run(capsys, "sweep", a, *options)
    assert re.findall(r"^│ (\S+) ", out, re.M) == ["+0", "+5e-08", "+1e-07"]
    pair = [a, b]
    ends = ["--from", 1, "--to", 1.0000001, "--points", 2, "--figure", deep / "grid.png"]
    code, out, err = run(capsys, "grid", "--model", folder, *pair, *ends, *FEW, "--json")
    assert code == 0, err
    assert [row["strengths"] for row in json.loads(out)["rows"]] == [
        {"mood#1": x, "mood#2": y} for y in (1, 1.0000001) for x in (1, 1.0000001)
    ]
    assert (deep / "grid.png").stat().st_size > 1000
    code, out, _ = run(capsys, "grid", "--model", folder, *pair, *ends, *FEW)
    assert "mood#2 \\ mood#1" in out
    assert "+1.0000001" in out
