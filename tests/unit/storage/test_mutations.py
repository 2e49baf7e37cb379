"""Folders that were damaged or forged: each loads right, or is refused in a sentence."""

import copy
import hashlib
import json
import random
from dataclasses import replace

import pytest
import torch

from lmsteer.cli import main
from lmsteer.errors import ArtefactError
from lmsteer.steer.steer import Fingerprint, Steer
from lmsteer.storage.card import card
from lmsteer.storage.facts import FACTS
from lmsteer.storage.finding import load_steer, shipped_steers
from lmsteer.storage.layout import TENSORS, pack, unpack
from lmsteer.storage.steers import save_steer

RAW = ("NaN", "-Infinity", "1e999", "1" * 5000, "true", '"\\ud800"', '"\\u001b[31m"', "[" * 50000)
WRONG = (None, True, False, -1, 0, 10**17, 1.5, "", "x", "../../x", [], [[]], {}, {"a": 1})
GONE, MARK = object(), "a value to be replaced"


@pytest.fixture(scope="module")
def shipped():
    """A steer with every field there is: a shipped one's, small, with samples for its card."""
    steer = shipped_steers()["sentiment"][0]
    g = torch.Generator().manual_seed(0)
    P, Q, R, S = (torch.randn(6, 2, generator=g) for _ in range(4))
    mark = Fingerprint(sketch=torch.randn(8, generator=g), model="bundled", revision=None)
    record = {**steer.record, "samples": [{"strength": 1.0, "text": "some | text"}]}
    measured = {
        "calibration": replace(steer.calibration, rows=steer.calibration.rows[4:7]),
        "effect": replace(steer.effect, rows=steer.effect.rows[3:8]),
    }
    record["course"] = {"steps": 3}
    part = Steer(R, S, "mood.domain", fingerprint=mark, record={"part": "domain"})
    return Steer(P, Q, "mood", "output", part, mark, record, **measured)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr("lmsteer.storage.steers._PAUSE", 0.0)


@pytest.fixture
def folder(shipped, tmp_path):
    save_steer(shipped, tmp_path / "mood")
    return tmp_path / "mood"


def places(value, path=()):
    """Every field of a JSON value, by the keys that lead there."""
    if path:
        yield path
    if isinstance(value, dict | list):
        # Of a list the first: the others are read alike.
        for key, inner in value.items() if isinstance(value, dict) else [*enumerate(value)][:1]:
            yield from places(inner, (*path, key))


def changed(facts, path, value):
    facts = copy.deepcopy(facts)
    inner = facts
    for key in path[:-1]:
        inner = inner[key]
    if value is GONE:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return facts


def shown(folder, *options):
    with pytest.raises(SystemExit) as caught:
        main(["show", str(folder), *options])
    return caught.value.code


def judged(folder, shipped, capsys, look):
    """True for loaded right, False for refused in a sentence; anything else is an error."""
    try:
        steer = Steer.load(folder)
    except ArtefactError as error:
        told = str(error)
    else:
        told = ""
    if told:
        assert str(folder) in told
        assert len(told) < 800
        if look:
            assert shown(folder) == 2
            assert "cannot be read" in capsys.readouterr().err.replace("\n", " ")
        return False
    assert torch.equal(steer.P, shipped.P)
    assert torch.equal(steer.Q, shipped.Q)
    assert steer.site == "output"
    assert (steer.fingerprint is None) is (shipped.fingerprint is None)
    assert (steer.domain is None) is (shipped.domain is None)
    # What loads can be shown and written again.
    assert steer.name in card(steer) or not steer.name.isalnum()
    blob, facts = pack(steer)
    assert unpack(blob, facts.encode()).digest == shipped.digest
    if look:
        assert shown(folder) == shown(folder, "--json") == 0
        assert "\x1b" not in capsys.readouterr().out
    return True


def test_every_field_of_the_facts_with_every_wrong_value(folder, shipped, capsys):
    text = (folder / FACTS).read_text(encoding="utf-8")
    facts = json.loads(text)
    mutated = []
    for path in places(facts):
        mutated += [json.dumps(changed(facts, path, value)) for value in (*WRONG, GONE)]
        marked = json.dumps(changed(facts, path, MARK))
        mutated += [marked.replace(f'"{MARK}"', raw) for raw in RAW]
    mutated += ["", "{}", "[]", "5", "\xff", text[:-40], '{"a":' * 50000]
    count = {True: 0, False: 0}
    for number, wrong in enumerate(mutated):
        (folder / FACTS).write_bytes(wrong.encode("latin-1" if wrong == "\xff" else "utf-8"))
        look = number % 40 == 0 or "\\u001b" in wrong
        count[judged(folder, shipped, capsys, look)] += 1
    assert min(count.values()) > 200
    print(f"mutated facts: {count[True]} load right, {count[False]} are refused")


def test_every_flipped_bit_cut_and_appendix_of_the_tensors_is_refused(folder):
    blob, facts = (folder / TENSORS).read_bytes(), (folder / FACTS).read_bytes()
    dice = random.Random(0)
    damaged = [blob[:cut] for cut in range(0, len(blob), 7)]
    damaged += [blob + b"\0", blob + blob, b"\0" + blob, bytes(len(blob)), blob[::-1]]
    for place in range(len(blob)):
        flipped = bytearray(blob)
        flipped[place] ^= 1 << dice.randrange(8)
        damaged.append(bytes(flipped))
    for wrong in damaged:
        with pytest.raises(ArtefactError, match="SHA-256"):
            unpack(wrong, facts)
    print(f"damaged tensors: {len(damaged)} refused")


def test_forged_tensors_with_a_checksum_of_their_own(folder, shipped):
    """Every byte of the header in turn becomes each of several others; nothing else may happen."""
    blob, facts = (folder / TENSORS).read_bytes(), json.loads((folder / FACTS).read_text())
    size = int.from_bytes(blob[:8], "little")
    outcomes = {True: 0, False: 0}
    for place in range(8 + size):
        for byte in b'\0\xff"}:9FIa':
            wrong = bytearray(blob)
            wrong[place] = byte
            try:
                facts["sha256"] = hashlib.sha256(wrong).hexdigest()
                steer = unpack(bytes(wrong), json.dumps(facts).encode())
            except ArtefactError:
                outcomes[False] += 1
            else:
                assert steer.P.shape == steer.Q.shape == shipped.P.shape
                assert torch.isfinite(steer.P).all()
                outcomes[True] += 1
    assert outcomes[False] > 400
    print(f"forged headers: {outcomes[True]} load, {outcomes[False]} are refused")


def test_names_that_lead_nowhere(llama):
    for name in ("", ".", "..", "/", "x" * 5000, "a\0b", "a\nb", "a/b/c", "~", "\ud800", "*"):
        with pytest.raises((ArtefactError, LookupError)):
            load_steer(name, llama)
