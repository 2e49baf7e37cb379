import numpy as np
import pytest

from lmsteer.errors import ArtefactError, InputError
from lmsteer.figures.evaluation import tradeoff_figure
from lmsteer.generation.records import Generation
from lmsteer.metrics.estimates import Estimate
from lmsteer.research.evaluation.document import markdown
from lmsteer.research.evaluation.measuring import measure
from lmsteer.research.evaluation.run import RECORDS, resumable

SETTINGS = {"seed": 0}


def write(calls):
    def made(prompts):
        calls.append(list(prompts))
        return [Generation(p, f" text {i}", {"s": 1.0}, i, 0) for p in prompts for i in range(2)]

    return made


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path):
    prompts = [f"p{i}" for i in range(5)]
    calls = []
    options = {"records_a_prompt": 2, "prompts_a_part": 2}
    first = resumable(tmp_path / "r", SETTINGS, prompts, write(calls), **options)
    assert calls == [["p0", "p1"], ["p2", "p3"], ["p4"]]
    assert [r.prompt for r in first] == [p for p in prompts for _ in range(2)]
    file = tmp_path / "r" / RECORDS
    whole = file.read_text()
    # Cut within a line, after a whole line of a prompt, and at a prompt's end.
    for cut, again in (
        (len(whole) - 5, ["p4"]),
        (whole.index("\n", whole.index("p3")) + 1, ["p3", "p4"]),
    ):
        file.write_text(whole[:cut])
        calls.clear()
        assert resumable(tmp_path / "r", SETTINGS, prompts, write(calls), **options) == first
        assert calls == [again]
        assert file.read_text() == whole
    calls.clear()
    assert resumable(tmp_path / "r", SETTINGS, prompts, write(calls), **options) == first
    assert not calls


def test_other_settings_are_refused_unless_forced(tmp_path):
    calls = []
    resumable(tmp_path, SETTINGS, ["a"], write(calls), records_a_prompt=2)
    with pytest.raises(InputError, match="holds another run"):
        resumable(tmp_path, {"seed": 1}, ["a"], write(calls), records_a_prompt=2)
    resumable(tmp_path, {"seed": 1}, ["a"], write(calls), records_a_prompt=2, force=True)
    assert len((tmp_path / RECORDS).read_text().splitlines()) == 2
    (tmp_path / RECORDS).write_text("nonsense\n{}\n")
    with pytest.raises(ArtefactError, match="line 1: not JSON"):
        resumable(tmp_path, {"seed": 1}, ["a"], write(calls), records_a_prompt=2)


@pytest.mark.parametrize("own", ["{}", "not JSON", None])
def test_files_of_the_user_are_left_alone_also_when_forced(tmp_path, own):
    (tmp_path / RECORDS).write_text("mine\n")
    if own is not None:
        (tmp_path / "settings.json").write_text(own)
    with pytest.raises(InputError, match="replaces another run, and nothing else"):
        resumable(tmp_path, SETTINGS, ["a"], write([]), records_a_prompt=2, force=True)
    assert (tmp_path / RECORDS).read_text() == "mine\n"


def test_two_runs_at_once_do_not_write_into_one_file(tmp_path):
    def write_again(prompts):
        with pytest.raises(InputError, match="another lmsteer command"):
            resumable(tmp_path / "r", SETTINGS, prompts, write([]), records_a_prompt=2)
        return write([])(prompts)

    resumable(tmp_path / "r", SETTINGS, ["a"], write_again, records_a_prompt=2)
    assert {p.name for p in (tmp_path / "r").iterdir()} == {RECORDS, "settings.json"}


def test_all_figures_of_a_strength(llama, tokenizer):
    records = [Generation(p, " it is so so", {}, i, 0) for p in ("a", "b") for i in range(2)]
    scorer = {"tox": lambda texts: np.full(len(texts), 0.5)}
    found = measure(llama, tokenizer, records, scorer, worst=True)
    assert found["tox"].value == 1.0
    assert found["tox.max"].value == 0.75
    assert found["tox.any"].value == 1.0
    assert found["distinct_1"].value == 3 / 8
    assert found["perplexity"].count == 4 * len(tokenizer(" it is so so")["input_ids"])


def test_a_report_and_its_figure(tmp_path):
    row = {"sentiment": Estimate(0.5, 4, 0.4, 0.6), "perplexity": Estimate(30, 9, 20, 40)}
    groups = {"neutral": [("base", row), ("s +2", row)]}
    samples = [Generation("My life", " is\nfine", {"s": 2.0}, 0, 0)]
    text = markdown("t", groups, samples, {"seed": 0}, figure="f.png")
    assert "| s +2 | 0.5 [0.4, 0.6] | 30 [20, 40] |" in text
    assert "- `s +2` **My life** is fine" in text
    tradeoff_figure(tmp_path / "f.png", groups, "sentiment", "t")
    assert (tmp_path / "f.png").read_bytes()[:4] == b"\x89PNG"
