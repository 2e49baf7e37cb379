"""What is held out: every label on both sides wherever it can be, equal texts together."""

import itertools
import math
import random
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from terminal import run

import lmsteer
from lmsteer.errors import InputError
from lmsteer.text.split import DataWarning, split_held_out

LABELS = st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0])


@st.composite
def drawn(draw, most=14):
    """Few different texts with their labels, copies and contradictions among them."""
    count = draw(st.integers(1, 3))
    label = LABELS if count == 1 else st.tuples(*[LABELS] * count)
    different = draw(st.integers(1, most))
    rows = draw(st.lists(st.tuples(st.integers(0, different - 1), label), min_size=20, max_size=40))
    return rows


def labelled(rows):
    return [lmsteer.Example(f"text {number}", value, "so: ") for number, value in rows]


def split(examples, share=0.1, salt=""):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        kept, held = split_held_out(examples, share, salt=salt)
    assert all(w.category is DataWarning for w in told)
    return kept, held, [str(w.message) for w in told]


def classes(examples):
    """The texts of each side of each style's label, by the definition."""
    found = {}
    for style in range(len(examples[0].labels)):
        values = [e.labels[style] for e in examples]
        middle = 0.0
        if min(values) > 0 or max(values) < 0:
            middle = (min(values) + max(values)) / 2
        for e, value in zip(examples, values, strict=True):
            side = (value > middle) - (value < middle)
            found.setdefault((style, side), set()).add(e.text)
    return found


def tells_apart(found, held):
    """Whether two sides of some style are among what is held out; or no style has two sides."""
    styles = {style for style, _ in found}
    several = [[key for key in found if key[0] == s] for s in styles]
    several = [keys for keys in several if len(keys) > 1]
    return not several or any(sum(bool(found[k] & held) for k in keys) > 1 for keys in several)


SHARES = st.sampled_from([0.05, 0.1, 0.3, 0.9])


@settings(max_examples=300, deadline=None)
@given(drawn(), SHARES)
def test_the_split_keeps_its_word(rows, share):
    examples = labelled(rows)
    kept, held, told = split(examples, share)
    assert sorted(kept + held) == list(range(len(examples)))
    learned, tested = ({examples[i].text for i in part} for part in (kept, held))
    assert not learned & tested
    found = classes(examples)
    assert all(where & learned for where in found.values())
    if held:
        assert tells_apart(found, tested)
    missing = [key for key, where in found.items() if not where & tested]
    assert bool(told) == bool(missing)
    if told:
        assert ("nothing was held out" in told[0]) == (not held)


@settings(max_examples=200, deadline=None)
@given(drawn(), SHARES, st.data(), st.text("ab", max_size=3))
def test_the_order_has_no_say(rows, share, data, salt):
    examples = labelled(rows)
    turned = [examples[i] for i in data.draw(st.permutations(range(len(rows))))]
    one, other = split(examples, share, salt), split(turned, share, salt)
    assert {examples[i].text for i in one[1]} == {turned[i].text for i in other[1]}
    assert one[2] == other[2]


@settings(max_examples=150, deadline=None)
@given(drawn(most=6))
def test_all_that_can_be_on_both_sides_is(rows):
    """Against every split there is: where one has all labels on both sides, ours has, too."""
    examples = labelled(rows)
    _, held, _ = split(examples)
    found = classes(examples)
    texts = sorted({e.text for e in examples})
    wanted = [where for where in found.values() if len(where) > 1]
    possible = [
        set(some)
        for size in range(len(texts))
        for some in itertools.combinations(texts, size)
        if all(where - set(some) for where in found.values())
    ]
    able = [some for some in possible if all(where & some for where in wanted)]
    tested = {examples[i].text for i in held}
    if able and any(tells_apart(found, some) for some in able):
        assert all(where & tested for where in wanted)
    if not held:
        assert not any(some and tells_apart(found, some) for some in possible)


def test_where_all_is_well_the_texts_of_the_least_hashes_are_held_out():
    """The rule of old, which shipped figures were made by."""
    import hashlib

    draw = random.Random(0)
    examples = [lmsteer.Example(f"text {i}", draw.choice((-1.0, 1.0))) for i in range(400)]
    keys = [hashlib.sha256(f"\x1f{e.prompt}\x1f{e.text}".encode()).hexdigest() for e in examples]
    cut = sorted(keys)[math.ceil(0.1 * 400) - 1]
    _, held, told = split(examples)
    assert (held, told) == ([i for i, key in enumerate(keys) if key <= cut], [])
    for name in ("sentiment", "politeness"):
        data = lmsteer.read_examples(f"bundled:{name}")
        keys = [hashlib.sha256(f"\x1f{e.prompt}\x1f{e.text}".encode()).hexdigest() for e in data]
        cut = sorted(set(keys))[math.ceil(0.1 * len(set(keys))) - 1]
        assert split(data)[1] == [i for i, key in enumerate(keys) if key <= cut]


def test_two_opposite_texts_are_learned_from_on_both_sides(llama, tokenizer):
    examples = [lmsteer.Example("it is good.", 1.0), lmsteer.Example("what a pity", -1.0)] * 15
    options = {"calibrate": False, "fast": False, "ridge": 0.1}
    with pytest.warns(DataWarning, match=r"nothing was held out: among 30 examples .*1 with a "):
        steer = lmsteer.train(llama, tokenizer, examples, **options)
    assert steer.record["data"]["held_out"] == {"positive": 0, "neutral": 0, "negative": 0}
    assert "held_out" not in steer.record

    def nll(text, strength):
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with lmsteer.attach(llama, {steer: strength}):
            return float(llama(input_ids=ids, labels=ids).loss)

    assert nll("it is good.", 1.0) < nll("it is good.", 0.0) < nll("it is good.", -1.0)
    assert nll("what a pity", -1.0) < nll("what a pity", 0.0) < nll("what a pity", 1.0)


def test_the_record_counts_what_was_held_out(llama, tokenizer, examples):
    steer = lmsteer.train(llama, tokenizer, examples, steps=2, calibrate=False)
    counts = steer.record["data"]["held_out"]
    assert counts["positive"] >= 1 <= counts["negative"]
    assert sum(counts.values()) == steer.record["held_out"]["texts"]
    both = [
        lmsteer.Example(e.text, (e.label, 0.0 if i % 2 else 1.0)) for i, e in enumerate(examples)
    ]
    steers = lmsteer.recipes.train_jointly(
        llama, tokenizer, both, ["a", "b"], steps=2, calibrate=False
    )
    first, second = (s.record["data"]["held_out"] for s in steers)
    assert first["positive"] >= 1 <= first["negative"]
    assert second["positive"] >= 1 <= second["neutral"]


def test_a_label_with_one_text_is_learned_from_and_told():
    examples = [lmsteer.Example(f"text {i}", (-1.0, 1.0)[i % 2]) for i in range(40)]
    examples.append(lmsteer.Example("neutral", 0.0))
    kept, held, told = split(examples)
    assert 40 in kept
    assert len(held) == math.ceil(0.1 * 41)
    assert len(told) == 1
    assert "not every label could be held out" in told[0]
    assert "1 with a label at 0" in told[0]


def test_shares_out_of_range():
    with pytest.raises(InputError, match="held_out must be in"):
        split_held_out([lmsteer.Example("a", 1.0)] * 30, 1.0)


def test_the_command_line_prints_one_line(capsys, folder, tmp_path):
    rows = ['{"text": "it is good.", "label": 1}', '{"text": "it is bad.", "label": -1}'] * 15
    (tmp_path / "data.jsonl").write_text("\n".join(rows))
    code, _, err = run(
        capsys, "train", tmp_path / "data.jsonl", "--model", folder, "--out", tmp_path / "s",
        "--steps", 2, "--no-calibrate",
    )  # fmt: skip
    assert code == 0
    assert err.count("warning: nothing was held out") == 1
    assert "DataWarning" not in err
