"""Names that can be shown, told apart, and kept in files."""

import os
import unicodedata

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lmsteer import Steer
from lmsteer.errors import InputError
from lmsteer.steer.labelling import labels
from lmsteer.steer.naming import (
    MOST_BYTES,
    check_name,
    file_name,
    name_of_folder,
    seen,
    told_apart,
    unique_file_names,
)

HOSTILE = [
    "../../evil", "/abs/evil", "a\\b", "..", ".", "", " ", "...", ".hidden", "CON", "con.txt",
    "Aux .x", "COM¹", "x\x1b]0;t\x07", "a:b", 'a<b>|"?*', "a\nb", "x" * 300, "é" * 200, "a. . ",
    "\u202egpj.exe", "\ud800", "\u00a0.a", "≮", "e\u0301",
]  # fmt: skip
texts = st.one_of(
    st.text(st.characters(exclude_categories=[]), max_size=150),
    st.text("./\\ :CONcon1~#\x1b\n", max_size=12),
    st.sampled_from(HOSTILE),
)
names = st.one_of(st.text("ab#12 .", min_size=1, max_size=5), st.text(min_size=1)).filter(
    lambda name: bool(seen(name))
)


def steer(name, value=1.0, domain=None):
    return Steer(torch.full((2, 1), value), torch.ones(2, 1), name, domain=domain)


UNSHOWN = [
    "", "  ", "\u200b", "\u3164", "a\nb", "a\r", "\x1b[31m", "a\x07", "\x7f", "a\x9bb", "\u2028",
    "\u202egpj.exe", "\u2066a", "\u200fa", "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("name", UNSHOWN)
def test_a_steer_refuses_a_name_that_cannot_be_shown(name):
    with pytest.raises(InputError, match="the name of a steer must") as caught:
        steer(name)
    assert str(caught.value).isprintable()
    with pytest.raises(InputError):
        steer("mood").renamed(name)


@pytest.mark.parametrize("name", [None, 5, b"mood", ["mood"]])
def test_a_name_is_text(name):
    with pytest.raises(InputError, match="must be text"):
        check_name(name)


@pytest.mark.parametrize(
    "name", ["mood", "a/b", "../x", "기분", "a mood", "émotion #2", "👩‍👧", "x" * 999]
)
def test_a_steer_takes_any_name_that_can(name):
    assert steer(name).name == name == check_name(name)


@pytest.mark.parametrize("path", ["mood", "a/mood", "a/mood/", "x/../mood", "./mood"])
def test_a_folder_names_its_steer(path, tmp_path, monkeypatch):
    assert name_of_folder(path) == "mood"
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert name_of_folder(".") == "here"
    assert name_of_folder("/") == "steer"
    assert name_of_folder("a/x\x1b]0;\n") == "x_]0;_"


def test_steers_of_one_name_are_numbered_in_the_order_given():
    one, two, other = steer("mood"), steer("mood", 2.0), steer("taste")
    assert labels([one, other, two]) == {one: "mood#1", other: "taste", two: "mood#2"}
    assert list(labels([two, one])) == [two, one]
    assert labels([two, one])[two] == "mood#1"
    assert labels([one, other, one]) == {one: "mood", other: "taste"}
    assert labels([]) == {}
    # A name that looks like a number's is another's: it stays, and the number is left out.
    third = steer("mood#2")
    assert labels([one, two, third]) == {one: "mood#1", two: "mood#3", third: "mood#2"}
    # What looks the same is the same to whoever reads it.
    alike = steer("mo\u200bod"), steer("mood "), steer("café"), steer("cafe\u0301")
    told = labels([one, *alike])
    assert told[one] == "mood#1"
    assert all("#" in told[a] for a in alike)


def test_a_domain_part_has_the_number_of_its_steer():
    parts = steer("mood.domain", 3.0), steer("mood.domain", 4.0)
    wholes = steer("mood", 1.0, parts[0]), steer("mood", 2.0, parts[1])
    told = labels([*wholes, parts[1], parts[0]])
    assert [told[s] for s in (*wholes, *parts)] == [
        "mood#1", "mood#2", "mood.domain#1", "mood.domain#2"
    ]  # fmt: skip
    # Read from disk a second time, as the command line does.
    again = steer("mood.domain", 4.0)
    assert labels([*wholes, again])[again] == "mood.domain#2"
    # Another's, with the same name: no number of theirs.
    stranger = steer("mood.domain", 9.0)
    told = labels([*wholes, stranger, parts[0]])
    assert told[parts[0]] == "mood.domain#1"
    assert told[stranger] not in {"mood.domain", "mood.domain#1", "mood.domain#2"}
    assert labels([*parts]) == {parts[0]: "mood.domain#1", parts[1]: "mood.domain#2"}
    assert labels([wholes[0], parts[0]]) == {wholes[0]: "mood", parts[0]: "mood.domain"}


@settings(deadline=None)
@given(st.lists(names, max_size=8), st.lists(names, max_size=3))
@example(["mood", "mood", "mood#1", "mood#2"], [])
@example(["a", "a#1", "a"], ["a#2", "a"])
def test_names_are_told_apart_and_no_more(given_names, taken):
    found = told_apart(given_names, taken=taken)
    looks = [seen(name) for name in found]
    assert len(set(looks)) == len(looks)
    assert not set(looks) & {seen(name) for name in taken}
    before = [seen(name) for name in given_names]
    for name, label, look in zip(given_names, found, before, strict=True):
        is_alone = before.count(look) == 1 and look not in {seen(t) for t in taken}
        assert (label == name) == is_alone
        assert label.startswith(name)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.sampled_from(["a", "a#1", "a.domain", "b", "a.domain#1"]), st.booleans()))
)
def test_labels_are_unique_whatever_the_steers_and_their_parts(wanted):
    steers = []
    for number, (name, with_part) in enumerate(wanted):
        part = steer(f"{name}.domain", -number - 1.0) if with_part else None
        steers += [steer(name, float(number), part), *([part] if part and number % 2 else [])]
    found = labels(steers)
    assert list(found) == steers
    assert len({seen(label) for label in found.values()}) == len(steers)
    if len({s.name for s in steers}) == len(steers):
        assert all(label.startswith(s.name) for s, label in found.items())


@settings(max_examples=400)
@given(texts)
def test_a_file_name_stays_in_its_folder_on_any_system(text):
    name = file_name(text)
    assert name
    assert len(name.encode()) <= MOST_BYTES
    assert not set(name) & set('/\\:*?"<>|')
    assert not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name)
    assert not {name[0], name[-1]} & set(". ")
    assert name.split(".")[0].strip().lower() not in {"con", "prn", "aux", "nul", "com1", "lpt9"}
    assert os.path.normpath(os.path.join("out", name)) == os.path.join("out", name)
    assert file_name(name) == name


@given(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20))
def test_a_file_name_keeps_letters_of_any_script(text):
    text = unicodedata.normalize("NFC", text)
    assert file_name(text) in (text, f"_{text}")


@pytest.mark.parametrize(
    "name", ["mood", "mood.domain", "mood#1", "기분", "a mood", "-3 (best)", "~"]
)
def test_an_ordinary_name_is_its_file_name(name):
    assert file_name(name) == name


@settings(max_examples=200)
@given(st.lists(texts, max_size=8))
@example(["a/b", "A_b", "a_b", "a_b#1"])
@example(["x" * 300, "x" * 301, "X" * 300, "base"])
def test_file_names_of_several_differ_where_case_does_not_count(several):
    found = unique_file_names(several, taken=["base"])
    folded = [unicodedata.normalize("NFC", name.casefold()) for name in [*found, "base"]]
    assert len(set(folded)) == len(folded)
    for text, name in zip(several, found, strict=True):
        assert name.startswith(file_name(text))
        assert len(name.encode()) <= MOST_BYTES
        assert "/" not in name
