"""A steer is itself, not its name; rows are keyed by their place, not by a name or a number."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

import lmsteer
from lmsteer import Steer
from lmsteer.cli.measured import measured, span
from lmsteer.errors import ArtefactError, InputError, MismatchError
from lmsteer.generation.records import Generation, by_mix
from lmsteer.metrics.estimates import Estimate
from lmsteer.recipes.calibration import calibrate
from lmsteer.research.comparison.comparing import compare
from lmsteer.research.comparison.report import Goal, write_report
from lmsteer.research.comparison.rows import MethodRow
from lmsteer.research.comparison.settings import Settings
from lmsteer.research.evaluation.document import labels_of
from lmsteer.research.evaluation.measuring import measure
from lmsteer.research.evaluation.run import RECORDS, SETTINGS, resumable
from lmsteer.steer.numerals import mix_texts, strength_texts

GREEDY = {"temperature": 0, "max_new_tokens": 6, "min_new_tokens": 6}


def random_steer(name="mood", site="output", scale=0.5):
    return Steer(torch.randn(32, 3) * scale, torch.randn(32, 3) * scale, name, site)


@pytest.fixture
def two():
    return random_steer(), random_steer()


def test_steers_of_one_name_keep_their_strengths_apart(llama, tokenizer, two):
    one, other = two
    mixes = [{one: 5.0, other: 0.0}, {one: 0.0, other: 5.0}, {one: 5.0}]
    records = lmsteer.generate(llama, tokenizer, ["a", "b"], strengths=mixes, **GREEDY)
    told = {"mood#1": 5.0, "mood#2": 0.0}, {"mood#1": 0.0, "mood#2": 5.0}, {"mood#1": 5.0}
    assert [r.strengths for r in records] == [*told, *told]
    assert [r.mix for r in records] == [0, 1, 2, 0, 1, 2]
    alone = lmsteer.generate(llama, tokenizer, ["a", "b"], strengths={other: 5.0}, **GREEDY)
    assert [r.strengths for r in alone] == [{"mood": 5.0}] * 2
    parts = by_mix(records, 3)
    assert [r.text for r in parts[1]] == [r.text for r in alone]
    assert [r.text for r in parts[0]] == [r.text for r in parts[2]]
    assert parts[0][0].text != parts[1][0].text
    assert labels_of([m for r in records[:2] for m in [r.strengths]]) == ["mood#1 +5", "mood#2 +5"]


def test_steers_of_one_name_have_caches_of_their_own(llama, tokenizer):
    """At the input site a prompt is read steered; that reading is another steer's no more."""
    steers = [random_steer(site="input", scale=1.0) for _ in range(2)]
    mixes = [{steers[0]: 1.0}, {steers[1]: 1.0}]
    both = lmsteer.generate(llama, tokenizer, "it is so", strengths=mixes, samples=2, **GREEDY)
    for mix, part in zip(mixes, by_mix(both, 2), strict=True):
        alone = lmsteer.generate(llama, tokenizer, "it is so", strengths=mix, samples=2, **GREEDY)
        assert [r.text for r in part] == [r.text for r in alone]
    assert both[0].text != both[2].text


def test_prompts_are_read_once_for_each_different_mix(llama, tokenizer, monkeypatch):
    from lmsteer.generation import decoding

    read = []
    whole = decoding.read_hidden

    def spy(model, **given):
        read.append(len(given["input_ids"]))
        return whole(model, **given)

    monkeypatch.setattr(decoding, "read_hidden", spy)
    one, other = (random_steer(site="input") for _ in range(2))
    mixes = [{one: 1.0}, {other: 1.0}, {one: 1.0, other: 2.0}, {other: 2.0, one: 1.0}, {one: 0.0}]
    lmsteer.generate(llama, tokenizer, "it is", strengths=mixes, samples=2, **GREEDY)
    assert read == [4]  # the order of a mapping says nothing


def test_random_numbers_hang_on_no_number_that_a_steer_is_given(llama, tokenizer, two):
    options = {"samples": 2, "max_new_tokens": 6, "seed": 3}
    plain, retold = (
        lmsteer.generate(llama, tokenizer, ["a", "b"], strengths={steer: 1.0}, **options)
        for steer in (two[0], replace(two[0], record={"n": 1}))
    )
    assert [r.text for r in plain] == [r.text for r in retold]
    # Nor on what else is asked for, though that gives the steer a number.
    both = lmsteer.generate(
        llama, tokenizer, ["b", "a"], strengths=[{two[1]: 1.0}, {two[0]: 1.0}], **options
    )
    found = {(r.prompt, r.sample): r.text for r in by_mix(both, 2)[1]}
    assert found == {(r.prompt, r.sample): r.text for r in plain}


def test_a_mapping_for_each_prompt_has_its_number(llama, tokenizer, two):
    mixes = [{two[0]: 1.0}, {two[0]: 1.0}, {}]
    records = lmsteer.generate(
        llama, tokenizer, ["a", "b", "c"], strengths=mixes, per_prompt=True, samples=2, **GREEDY
    )
    assert [r.mix for r in records] == [0, 0, 1, 1, 2, 2]
    beams = lmsteer.generate(
        llama, tokenizer, ["a", "b"], strengths=mixes, samples=2, beams=2, max_new_tokens=3
    )
    assert [(r.mix, r.sample) for r in beams[:6]] == [(m, s) for m in range(3) for s in range(2)]
    with pytest.raises(MismatchError, match="mapping number 2 where 2 mappings"):
        by_mix(records, 2)


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=6))
@example([1.0, 1.0000001])
@example([1.0, 1.0])
@example([0.0, 1e-8, 1e-7])
@example([0.1 + 0.2, 0.3])
@example([0.0, -0.0])
def test_different_strengths_have_different_texts(strengths):
    texts = strength_texts(strengths)
    assert len(set(texts)) == len(set(strengths))
    for one, text in zip(strengths, texts, strict=True):
        assert text[0] in "+-"
        assert float(text) == pytest.approx(one, rel=1e-5)
        assert (texts.count(text) > 1) == (strengths.count(one) > 1)


def test_texts_have_no_more_digits_than_they_need():
    assert strength_texts([-5, 0, 2.5, 1 / 3]) == ["-5", "+0", "+2.5", "+0.333333"]
    assert strength_texts([1, 1.0000001]) == ["+1", "+1.0000001"]
    assert mix_texts([{"a": 1, "b": 2}, {"a": 1.0000001}, {}]) == [
        {"a": "+1", "b": "+2"}, {"a": "+1.0000001"}, {}
    ]  # fmt: skip


def test_only_no_strength_is_called_base():
    mixes = [{}, {"a": 0.0}, {"a": 0.0, "b": -0.0}, {"a": 1e-12}, {"a": 0.0, "b": -1e-300}]
    assert labels_of(mixes) == ["base", "base", "base", "a +1e-12", "b -1e-300"]


@pytest.mark.parametrize(
    ("ends", "steps", "found"),
    [
        ((0, 1e-7), 3, [0.0, 5e-8, 1e-7]),
        ((-5, 5), 11, [-5.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),
        ((0, 1), 11, [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]),
        ((1, 1.0000002), 3, [1.0, 1.0000001, 1.0000002]),
    ],
)
def test_a_span_has_as_many_strengths_as_steps(ends, steps, found):
    assert span(*ends, steps, "a sweep") == found


@given(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300), st.integers(2, 9))
def test_a_span_is_of_different_strengths_or_refused(low, high, steps):
    try:
        found = span(low, high, steps, "a sweep")
    except InputError:
        assert not low < high or np.nextafter(low, np.inf) + 9 * np.spacing(abs(low)) >= high
        return
    assert found == sorted(set(found))
    assert (len(found), found[0], found[-1]) == (steps, low, high)


@pytest.mark.parametrize(
    "given_", [(1, 0, 3), (0, 1, 1), (0, np.inf, 3), (np.nan, 1, 3), (1, 1.0000000000000004, 11)]
)
def test_a_span_that_is_none_is_refused(given_):
    with pytest.raises(InputError, match="a sweep"):
        span(*given_, "a sweep")


def test_rows_of_nearly_equal_strengths_are_measured_each_from_its_own(llama, tokenizer, two):
    seen = []

    def scorer(texts):
        seen.append(len(texts))
        return np.full(len(texts), float(len(seen)))

    mixes = [{two[0]: s} for s in (1.0, 1.0, 1.0000001, 0.0)] + [{two[1]: 0.0}]
    options = {"worst": False, "quiet": True, "tokens": 4, "samples": 2, "seed": 0}
    found = measured(llama, tokenizer, ["a", "b", "a"], mixes, {"s": scorer}, **options)
    assert seen == [4] * 5
    assert [len(part) for part, _ in found] == [4] * 5
    assert [{r.mix for r in part} for part, _ in found] == [{n} for n in range(5)]
    assert found[3][0] == [
        replace(r, strengths={"mood#1": 0.0}) for r in found[4][0]
    ]  # the base model's texts, in rows of their own


def test_a_scorer_is_not_called_as_another_figure(llama, tokenizer):
    records = [Generation("a", " it is", {}, 0, 0)]
    for name in ("perplexity", "distinct_2", "repetition", "strength", "texts"):
        with pytest.raises(InputError, match="another figure"):
            measure(llama, tokenizer, records, {name: lambda texts: np.zeros(len(texts))})
    both = dict.fromkeys(("x", "x.max"), lambda texts: np.zeros(len(texts)))
    with pytest.raises(InputError, match="another figure"):
        measure(llama, tokenizer, records, both, worst=True)


def test_records_on_disk_know_their_row(tmp_path):
    def write(prompts):
        return [Generation(p, "t", {"mood": 0.0}, 0, 0, mix) for p in prompts for mix in (0, 1)]

    options = {"records_a_prompt": 2}
    first = resumable(tmp_path, {"a": 1}, ["p", "q"], write, **options)
    again = resumable(tmp_path, {"a": 1}, ["p", "q"], lambda part: 1 / 0, **options)
    assert [r.mix for r in first] == [r.mix for r in again] == [0, 1, 0, 1]
    rows = [json.loads(line) for line in (tmp_path / RECORDS).read_text().splitlines()]
    assert [row["mix"] for row in rows] == [0, 1, 0, 1]
    # Records of before do not say it: their folder is another run's.
    settings = (tmp_path / SETTINGS).read_text()
    (tmp_path / SETTINGS).write_text(json.dumps({"a": 1}, sort_keys=True, indent=1))
    with pytest.raises(InputError, match="holds another run"):
        resumable(tmp_path, {"a": 1}, ["p"], write, **options)
    (tmp_path / SETTINGS).write_text(settings)
    for row in ({k: v for k, v in rows[0].items() if k != "mix"}, [1], {**rows[0], "more": 1}):
        (tmp_path / RECORDS).write_text(json.dumps(row) + "\n")
        with pytest.raises(ArtefactError, match="line 1: expected a record"):
            resumable(tmp_path, {"a": 1}, ["p"], write, **options)


def test_a_calibration_has_a_row_for_each_strength_however_near(llama, tokenizer):
    options = {"prompts": ["a", "b"], "strengths": [1.0, 1.0000001], "samples": 2}
    steer = calibrate(llama, tokenizer, random_steer("a#1 b"), max_new_tokens=4, **options)
    rows = steer.calibration.rows
    assert [row.strength for row in rows] == [0.0, 1.0, 1.0000001]


def test_steers_of_one_name_are_composed_of_both(two):
    total = lmsteer.compose({two[0]: 1.0, two[1]: -2.0})
    assert total.record["composed"] == {"mood#1": 1.0, "mood#2": -2.0}
    assert total.name == "mood#1+mood#2"
    assert torch.allclose(total.matrix(), two[0].matrix() - 2 * two[1].matrix(), atol=1e-5)


def test_ready_steers_of_one_name_have_rows_of_their_own(llama, tokenizer, examples, tmp_path):
    mark = lmsteer.model.identity.fingerprint(llama)
    names = [str(tmp_path / place / "mood") for place in ("a", "b")]
    for name in names:
        replace(random_steer(), fingerprint=mark).save(name)
    options = {"signs": [1], "settings": Settings(samples=2, tokens=4), "folder": tmp_path / "rows"}
    given_ = (["it is"], {"long": lambda texts: np.array([len(t) - 8.0 for t in texts])})
    first = compare(llama, tokenizer, names, [], *given_, **options)
    again = compare(llama, tokenizer, names[::-1], [], *given_, **options)
    assert [row.name for row in again] == names[::-1]
    assert [row.figures for row in again[::-1]] == [row.figures for row in first]
    assert first[0].figures != first[1].figures
    assert len(list((tmp_path / "rows").iterdir())) == 2
    # The same steer in another place was measured already, and is told under its own name.
    lmsteer.Steer.load(names[0]).save(tmp_path / "c" / "mood")
    (moved,) = compare(llama, tokenizer, [str(tmp_path / "c" / "mood")], [], *given_, **options)
    assert moved.name.endswith("c/mood")
    assert moved.figures == first[0].figures
    with pytest.raises(InputError, match="named twice: swb"):
        compare(llama, tokenizer, ["swb", "lora", "swb"], examples, *given_, **options)


def test_rows_of_one_name_are_reported_apart(tmp_path):
    def figures(share):
        return {"s": Estimate(share, 4, share, share), "perplexity": Estimate(10, 4, 10, 10)}

    rows = [
        MethodRow("mood", "x", True, 1, 2, base=figures(0.5), figures={"+1": figures(share)})
        for share in (0.6, 0.9)
    ]
    write_report(tmp_path, "t", rows, {"goal": Goal(1, "s", False)}, {})
    reached = json.loads((tmp_path / "comparison.json").read_text())["reached"]["goal"]
    assert {name: found["2"]["value"] for name, found in reached.items()} == {
        "mood#1": 0.6, "mood#2": 0.9
    }  # fmt: skip
    text = (tmp_path / "comparison.md").read_text()
    assert re.findall(r"^\| (mood#.) \| \+1 \| (\S+)", text, re.M) == [
        ("mood#1", "0.6"), ("mood#2", "0.9")
    ]  # fmt: skip
