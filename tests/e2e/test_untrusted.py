"""Names, labels, texts and paths of strangers: no file is written outside the folder that was
given, and no terminal takes an order."""

import json
import os
import re
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from terminal import outside, run, tree

import lmsteer

CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
ESCAPES = "[red]x[/] \x1b]0;owned\x07\x1b[2J\u202e\u2028"
FEW = ("--count", 2, "--samples", 2, "--tokens", 4, "--scorer", "vader")


def names_that_try(tmp_path):
    return [
        "../../evil", str(tmp_path / "abs" / "evil"), "a\\b", "..", ".", "...", ".hidden", "CON",
        "nul.txt", "base", "BASE", "x" * 300, "é" * 200, "a:b", "-rf", "a/b", "a_b", "A_B", "~/x",
        "mood", "mood#1", "mood", "[bold]", "overlaps",
    ]  # fmt: skip


REFUSED = ("", "  ", "x\x1b]0;t\x07", "a\nb", "\u202egpj.exe", "\x9b", "\u2028", "\ud800")


@pytest.fixture
def steers(save_named, tmp_path):
    names = names_that_try(tmp_path)
    return [save_named(tmp_path / "steers" / str(i), name) for i, name in enumerate(names)]


def test_no_export_is_written_outside_its_folder(capsys, folder, steers, deep, tmp_path):
    pytest.importorskip("peft")
    gguf = pytest.importorskip("gguf")
    before = tree(tmp_path)
    out = deep / "a" / "out"
    on = ["--model", folder, "--json"]
    code, told, err = run(capsys, "export", "gguf", *steers, *on, "--no-base", "--out", out)
    assert code == 0, err
    files = json.loads(told)["steers"]
    assert len(files) == 2 * len(steers)
    assert {os.path.dirname(file) for file in files.values()} == {str(out)}
    assert len({os.path.basename(file).lower() for file in files.values()}) == len(files)
    assert "base.gguf" not in {os.path.basename(file).lower() for file in files.values()}
    assert {"mood#2", "mood#3", "mood.domain#2", "mood.domain#3"} <= set(files)
    # Each file is the steer of its name.
    for label, number in (("mood#2", 19), ("mood#3", 21)):
        tensors = {t.name: torch.tensor(t.data) for t in gguf.GGUFReader(files[label]).tensors}
        wanted = lmsteer.Steer.load(steers[number]).P.T
        assert torch.equal(tensors["output.weight.lora_a"], wanted)
    specs = [f"{steer}=0.01" for steer in steers]
    for kind in ("folder", "peft"):
        place = deep / f"b-{kind}"
        code, told, err = run(capsys, "export", kind, *specs, *on, "--out", place)
        assert code == 0, err
        names = [fact["name"] for fact in json.loads(told)["steers"]]
        assert len(set(names)) == len(names)
    assert outside(tmp_path, before, deep / "a", deep / "b-folder", deep / "b-peft") == set()


def test_no_figure_page_or_steer_is_written_outside_its_place(
    capsys, folder, steers, deep, tmp_path, monkeypatch
):
    pytest.importorskip("matplotlib")
    before = tree(tmp_path)
    on = ["--model", folder]
    few = ["--words", 2, "--directions", 1, "--json"]
    code, told, err = run(capsys, "explain", *steers, *on, *few, "--figures", deep / "f")
    assert code == 0, err
    assert len(json.loads(told)["steers"]) == len(steers)
    drawn = {path.name.lower() for path in (deep / "f").iterdir()}
    assert len(drawn) == len(steers) + 1
    assert all(path.parent == deep / "f" for path in (deep / "f").rglob("*"))
    for number in (0, 1, 3, 11):
        text = ["--text", "It is good.", "--figures", deep / "g", "--html", deep / "page.html"]
        assert run(capsys, "explain", steers[number], *on, *text, "--json")[0] == 0
    assert len(list((deep / "g").iterdir())) == 4
    specs = [f"{steer}=0.01" for steer in steers]
    code, _, err = run(capsys, "compose", *specs, "--out", deep / "composed")
    assert code == 0, err
    to = ["--target", folder, "--form", "inverse", "--no-calibrate", "--out", deep / "carried"]
    code, _, err = run(capsys, "transfer", steers[0], *on, *to)
    assert code == 0, err
    assert lmsteer.Steer.load(deep / "carried").name == "../../evil"
    code, _, err = run(capsys, "calibrate", deep / "carried", *on, "--tokens", 2, "--samples", 1)
    assert code == 0, err
    figure = ["--figure", deep / "s.png"]
    assert run(capsys, "sweep", steers[0], *on, "--points", 2, *FEW, *figure)[0] == 0
    pair = [steers[0], steers[1], "--figure", deep / "gr.png"]
    assert run(capsys, "grid", *pair, *on, "--points", 2, *FEW)[0] == 0
    mixes = [f"{steers[0]}=1", f"{steers[1]}=1", "--out", deep / "report"]
    assert run(capsys, "evaluate", *mixes, *on, *FEW, "--prompts", "bundled:neutral")[0] == 0
    uploaded = []

    def upload_folder(self, **given):
        uploaded.append(sorted(path.name for path in given["folder_path"].rglob("*")))
        return SimpleNamespace(commit_url="https://hub/commit/1")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", lambda *a, **k: None)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload_folder)
    for steer in steers[:4]:
        assert run(capsys, "push", f"{steer}=-2,2", "--repo", "user/x", *on, "--samples", 1)[0] == 0
    assert all({"README.md", "steer.json", "steer.safetensors"} <= set(up) for up in uploaded)
    assert len(uploaded) == 4
    places = ("f", "g", "page.html", "composed", "carried", "s.png", "gr.png", "report")
    assert outside(tmp_path, before, *(deep / place for place in places)) == set()


def test_no_method_row_is_written_outside_its_folder(
    capsys, folder, save_named, deep, tmp_path, examples
):
    (deep / "data.jsonl").write_text(
        "".join(json.dumps({"text": e.text, "label": e.label}) + "\n" for e in examples)
    )
    names = [save_named(tmp_path / place / "mood", "../../evil") for place in "AB"]
    before = tree(tmp_path)
    methods = [*names, "--learn", "data.jsonl"]
    on = ["--model", folder, "--out", deep / "report"]
    code, out, err = run(capsys, "compare", *methods, *on, *FEW, "--json")
    assert code == 0, err
    rows = json.loads(out)
    assert [row["name"] for row in rows] == list(map(str, names))
    assert rows[0]["figures"] != rows[1]["figures"]
    assert outside(tmp_path, before, deep / "report") == set()


def test_label_columns_name_folders_below_out_alone(capsys, folder, examples, deep, tmp_path):
    columns = ["../../evil", str(tmp_path / "abs"), "..", "a\\b", "a/b", "A_B", "CON", "x" * 300]
    rows = [
        {"text": e.text, **{c: e.label * (-1) ** (i % 2) for i, c in enumerate(columns)}}
        for e in examples
    ]
    data = deep / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    before = tree(tmp_path)
    labels = [part for column in columns for part in ("--label", column)]
    options = ["--model", folder, "--out", deep / "out", "--no-calibrate", "--steps", 1]
    code, told, err = run(capsys, "train", data, *labels, *options, "--rank", 1, "--json")
    assert code == 0, err
    places = [row["out"] for row in json.loads(told)]
    assert {os.path.dirname(place) for place in places} == {str(deep / "out")}
    assert [lmsteer.Steer.load(place).name for place in places] == columns
    assert outside(tmp_path, before, deep / "out") == set()
    before = tree(tmp_path)
    for bad, message in (
        (["", "a"], "must not be empty"),
        (["x\x1b]0;t\x07", "a"], "control characters"),
        (["a", "a"], "given once"),
    ):
        labels = [part for column in bad for part in ("--label", column)]
        code, _, err = run(capsys, "train", data, *labels, *options)
        assert (code, message in " ".join(err.split())) == (2, True), err
        assert not CONTROLS.search(err)
    code, _, err = run(capsys, "train", data, *options, "--name", "a\x1b[2J")
    assert (code, "control characters" in " ".join(err.split())) == (2, True)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", REFUSED)
def test_a_steer_on_disk_with_a_name_that_cannot_be_shown_is_refused(
    capsys, save_named, deep, name
):
    steer = save_named(deep / "steer", name)
    before = tree(deep)
    for command in (
        ["show", steer],
        ["compose", f"{steer}=1", "--out", deep / "x"],
        ["generate", f"{steer}=1", "--prompt", "a"],
        ["list", deep],
    ):
        code, out, err = run(capsys, *command)
        assert code == 2
        assert "error:" in err
        assert "Traceback" not in err
        assert not CONTROLS.search(out + err)
    assert tree(deep) == before


def facts_with(text):
    """Facts such as training and measuring leave, with this text wherever there may be one."""
    sides = ("positive", "negative", "neutral", "truncated", "skipped", "texts", "tokens")
    figures = ("perplexity", "distinct_2")
    ends = {f"{name}{end}": 1.0 for name in figures for end in ("", "_low", "_high")}
    rates = dict.fromkeys(("rate", "rate_low", "rate_high"), 1.0)
    record = {
        "data": dict.fromkeys(sides, 1),
        "seconds": 1.0,
        "balance": True,
        "solver": text,
        "source": text,
        "held_out": {"nll_base": 1.0, "nll": 1.0, "tokens": 1},
    }
    return {
        "record": record,
        "calibration": {
            "rows": [{"strength": s, "kl": 0.1, **ends} for s in (0.0, 1.0)],
            "safe": [-9, 9],
            "top_p": 0.9,
            **dict.fromkeys(("prompts", "samples", "tokens"), 1),
        },
        "effect": {
            **dict.fromkeys(("style", "judge", "prompts"), text),
            "texts": 1,
            "rows": [{"strength": 1.0, **rates}],
            "spearman": 1.0,
        },
    }


def test_no_command_gives_the_terminal_an_order(capsys, folder, save_named, deep, monkeypatch):
    """Names that may be, with markup in them; models that write escapes; records, cards, paths."""
    pytest.importorskip("matplotlib")
    pytest.importorskip("peft")
    pytest.importorskip("gguf")
    base = {"name": ESCAPES, "revision": ESCAPES}
    facts = facts_with(ESCAPES)
    place = deep / f"dir {ESCAPES.replace('/', '|')}"
    one = save_named(place / "one", "[red]evil[/] [/bold] \\", base_model=base, **facts)
    two = save_named(deep / "two", "[red]evil[/] [/bold] \\", base_model=base, **facts)
    on = ["--model", folder]
    to = ["--target", folder, "--form", "inverse", "--no-calibrate", "--out", place / "carried"]
    for extra in ([], ["--json", "--force"]):
        code, out, err = run(capsys, "transfer", one, *on, *to, *extra)
        assert code == 0, err
        assert not CONTROLS.search(out + err)
    monkeypatch.setattr(
        "transformers.PreTrainedTokenizerFast.batch_decode",
        lambda self, ids, **options: [f" good \x1b]0;x\x07[/red]\u202e\n{len(ids)}"] * len(ids),
    )
    prompt = ["--prompt", f"a {ESCAPES}\nb"]
    pair, few = [one, two], ["--words", 2, "--directions", 1]
    specs = [f"{one}=1", f"{two}=99"]
    text = ["--text", f"It is {ESCAPES} good."]
    said = []
    for command in (
        ["list", place],
        ["list", deep],
        ["list", place / "nothing"],
        ["show", one],
        ["generate", *on, *prompt, *specs, "--tokens", 2],
        ["sweep", *on, one, "--points", 2, *FEW, "--figure", place / "s.png"],
        ["grid", *on, *pair, "--points", 2, *FEW, "--figure", place / "g.png"],
        ["evaluate", *on, specs[0], "--out", place / "report", *FEW],
        ["explain", one, two, *on, *few, "--figures", place / "f"],
        ["explain", one, *on, *text, "--figures", place / "f", "--html", place / "page.html"],
        ["compose", *specs, "--out", place / "sum"],
        ["export", "folder", *specs, *on, "--out", place / "folder"],
        ["export", "peft", *specs, *on, "--out", place / "peft"],
        ["export", "gguf", one, two, *on, "--no-base", "--out", place / "gguf"],
    ):
        for extra in ([], ["--json"]):
            if extra and "--out" in command and command[0] != "evaluate":
                extra = ["--json", "--force"]
            code, out, err = run(capsys, *command, *extra)
            assert code == 0, (command, err)
            assert not CONTROLS.search(out + err), (command, ascii(out + err))
            if not extra:
                said.append(out + err)
            else:
                json.loads(out)
    told = "".join(said)
    assert "[red]evil[/] [/bold] \\#2" in told
    assert "[red]x[/]" in told
    assert "good \\x1b]0;x\\x07[/red]\\u202e\n" in told
    for command in (
        ["show", place / "no"],
        ["generate", f"{place}/no=1", "--prompt", "a", *on],
        ["generate", ESCAPES, "--prompt", "a", *on],
        ["generate", "--model", place, "--prompt", "a"],
        ["train", place / "no.jsonl", "--out", deep / "x"],
        ["evaluate", "--prompts", place / "no", "--out", deep / "x", *on],
        ["sweep", one, "--scorer", f"{place}:x", *on],
        ["compose", f"{one}=1,2", "--out", deep / "x"],
    ):
        code, out, err = run(capsys, *command)
        assert code == 2, command
        assert "error:" in err
        assert not CONTROLS.search(out + err), (command, ascii(err))
    for page in (place / "page.html", place / "report/report.md", place / "sum/README.md"):
        assert not CONTROLS.search(page.read_text()), page
