"""Statistics on disk: they come back bit by bit, and what is damaged is refused in a sentence."""

import json
import random

import pytest
import torch
from safetensors.torch import load_file, save_file

from lmsteer.errors import ArtefactError, InputError, LmsteerError, NotFoundError
from lmsteer.storage import load_statistics, save_statistics
from lmsteer.training import read_statistics


@pytest.fixture
def sums(llama, tokenizer, examples):
    return read_statistics(llama, tokenizer, examples, sampled=8)


@pytest.fixture
def folder(sums, tmp_path):
    save_statistics(sums, tmp_path / "sums")
    return tmp_path / "sums"


def rewrite(folder, **changed):
    """Write the tensors again with others in place, and the right checksum."""
    import hashlib

    tensors = load_file(folder / "statistics.safetensors")
    for name, value in changed.items():
        name = name.replace("__", ".")
        tensors.pop(name) if value is None else tensors.update({name: value})
    save_file(tensors, folder / "statistics.safetensors")
    facts = json.loads((folder / "statistics.json").read_text())
    blob = (folder / "statistics.safetensors").read_bytes()
    facts["sha256"] = hashlib.sha256(blob).hexdigest()
    (folder / "statistics.json").write_text(json.dumps(facts))


def test_they_come_back_as_they_were(sums, folder):
    found = load_statistics(folder)
    assert (found.texts, found.tokens, found.sampled) == (sums.texts, sums.tokens, sums.sampled)
    pairs = zip(
        (*found.tensors(), *found.expected.tensors(), found.sample.hidden, found.sample.text),
        (*sums.tensors(), *sums.expected.tensors(), sums.sample.hidden, sums.sample.text),
        strict=True,
    )
    assert all(torch.equal(a, b) for a, b in pairs)
    assert found.fingerprint.matches(sums.fingerprint)
    assert (found - sums).tokens == 0


def test_nothing_of_the_users_is_replaced(sums, folder, tmp_path):
    with pytest.raises(InputError, match="exists already"):
        save_statistics(sums, folder)
    save_statistics(sums + sums, folder, force=True)
    assert load_statistics(folder).texts == 2 * sums.texts
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not a folder of statistics"):
        save_statistics(sums, tmp_path / "mine", force=True)


def test_what_is_not_there(tmp_path):
    with pytest.raises(NotFoundError, match="no statistics"):
        load_statistics(tmp_path / "none")
    with pytest.raises(ArtefactError, match=r"no statistics\.json"):
        load_statistics(tmp_path)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"pull": None}, "expected pull"),
        ({"pull": torch.zeros(2, 32, 31).double()}, "expected pull"),
        ({"rows": torch.zeros(2, 32)}, "rows holds"),
        ({"expected__weight": torch.tensor(float("nan")).double()}, "expected.weight holds"),
        ({"sample__targets": torch.zeros(3)}, "sample"),
        ({"fingerprint": torch.zeros(3, 3)}, "fingerprint"),
        ({"fingerprint": None}, "fingerprint"),
    ],
)
def test_damaged_tensors_are_refused(folder, changed, said):
    rewrite(folder, **changed)
    with pytest.raises(ArtefactError, match=said):
        load_statistics(folder)


@pytest.mark.parametrize(
    "facts",
    [
        "",
        "[]",
        "{",
        '{"format": "lmsteer"}',
        '{"format": "lmsteer-statistics", "schema": 9}',
        '{"format": "lmsteer-statistics", "schema": 1}',
        '{"format": "lmsteer-statistics", "schema": 1, "base_model": 3}',
    ],
)
def test_damaged_facts_are_refused(folder, facts):
    (folder / "statistics.json").write_text(facts)
    with pytest.raises(ArtefactError):
        load_statistics(folder)


def test_any_change_of_a_byte_is_an_error_or_nothing(folder, sums):
    draw = random.Random(0)
    for name in ("statistics.json", "statistics.safetensors"):
        whole = (folder / name).read_bytes()
        for _ in range(40):
            place = draw.randrange(len(whole))
            damaged = bytearray(whole)
            damaged[place] ^= 1 << draw.randrange(8)
            (folder / name).write_bytes(bytes(damaged))
            try:
                found = load_statistics(folder)
            except LmsteerError:
                continue
            assert name == "statistics.json"
            assert torch.equal(found.pull, sums.pull)
        (folder / name).write_bytes(whole)
