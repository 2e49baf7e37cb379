import hashlib
import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

import lmsteer
from lmsteer.errors import ArtefactError, InputError, MismatchError, NotFoundError
from lmsteer.model.identity import fingerprint
from lmsteer.steer.calibration import Calibration, Cost
from lmsteer.steer.effect import Effect, Rate
from lmsteer.steer.steer import Steer
from lmsteer.storage.facts import FACTS
from lmsteer.storage.layout import TENSORS


@pytest.fixture
def whole(steer, llama):
    domain = Steer(steer.Q, steer.P, "whole.domain")
    mark = fingerprint(llama)
    return Steer(steer.P, steer.Q, "whole", "output", domain, mark, {"note": "é"})


def test_saving_then_loading_is_exact(whole, tmp_path):
    whole.save(tmp_path / "a" / "whole")
    again = Steer.load(tmp_path / "a" / "whole")
    for mine, theirs in ((whole, again), (whole.domain, again.domain)):
        assert torch.equal(mine.P, theirs.P)
        assert torch.equal(mine.Q, theirs.Q)
        assert (mine.name, mine.site) == (theirs.name, theirs.site)
    assert dict(again.record) == {"note": "é"}
    assert again.fingerprint.matches(whole.fingerprint)
    assert "LM-Steer" in (tmp_path / "a" / "whole" / "README.md").read_text()


def test_a_damaged_file_a_foreign_folder_and_a_newer_version_are_told_apart(whole, tmp_path):
    path = tmp_path / "s"
    with pytest.raises(NotFoundError, match="no steer at"):
        Steer.load(path)
    with pytest.raises(NotFoundError, match="no steer at"):
        Steer.load("x" * 5000)
    path.mkdir()
    with pytest.raises(ArtefactError, match=r"has no steer\.json"):
        Steer.load(path)
    path.rmdir()
    whole.save(path)
    tensors, facts = load_file(path / TENSORS), json.loads((path / FACTS).read_text())

    def spoil(match, new_tensors=None, header=None, **changes):
        save_file(new_tensors or tensors, path / TENSORS, header)
        digest = hashlib.sha256((path / TENSORS).read_bytes()).hexdigest()
        (path / FACTS).write_text(json.dumps({**facts, "sha256": digest, **changes}))
        with pytest.raises(ArtefactError, match=match) as caught:
            Steer.load(path)
        assert str(path) in str(caught.value)

    spoil("P holds NaN", {**tensors, "P": torch.full_like(tensors["P"], float("nan"))})
    spoil("P holds NaN or infinite", {**tensors, "P": tensors["P"].double() * 1e300})
    spoil("expected Q", {k: v for k, v in tensors.items() if k != "Q"})
    spoil("expected P", {**tensors, "P": tensors["P"][:5].contiguous()})
    spoil("fingerprint is missing", {k: v for k, v in tensors.items() if k != "fingerprint"})
    spoil("fingerprint is there", base_model=None)
    spoil("one row of numbers", {**tensors, "fingerprint": torch.ones(2, 2)})
    spoil(r"domain\.P is there", domain=None)
    spoil("site of the steer is 'output'", header={"site": "input"})
    spoil("where of the steer is 'all'", header={"where": "prompt"})
    spoil("schema 99", schema=99)
    spoil("not written by lmsteer", format="other")
    for dtype in (torch.int32, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.uint8):
        spoil("floating-point numbers of 16 to 64", {**tensors, "P": tensors["P"].to(dtype)})
    (path / TENSORS).unlink()
    with pytest.raises(ArtefactError, match="copy the whole folder"):
        Steer.load(path)
    (path / TENSORS).mkdir()
    with pytest.raises(ArtefactError, match="not a file"):
        Steer.load(path)


def test_factors_are_floating_point_numbers():
    """Without the type checker that runs in these tests, in a process of its own."""
    code = (
        "import torch, lmsteer\n"
        "for dtype in (torch.int64, torch.bool, torch.complex64, torch.float8_e5m2):\n"
        "    try:\n"
        "        lmsteer.Steer(torch.ones(4, 2).to(dtype), torch.ones(4, 2).to(dtype))\n"
        "    except lmsteer.LmsteerError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("must hold floating-point numbers of 16 to 64 bits") == 4


def test_a_steer_of_the_first_schema_is_read(whole, tmp_path):
    whole.save(tmp_path / "s")
    facts = json.loads((tmp_path / "s" / FACTS).read_text())
    del facts["sha256"]
    (tmp_path / "s" / FACTS).write_text(json.dumps(facts))
    with pytest.raises(ArtefactError, match="sha256"):
        Steer.load(tmp_path / "s")
    (tmp_path / "s" / FACTS).write_text(json.dumps({**facts, "schema": 1}))
    assert Steer.load(tmp_path / "s").digest == whole.digest


@pytest.fixture
def measured(whole):
    """A steer, and its domain part too, with all that can be measured of it."""
    rows = tuple(
        Cost(
            strength=strength,
            kl=strength**2 / 7,
            perplexity=10.0,
            perplexity_low=9.0,
            perplexity_high=11.0,
            distinct_2=0.9,
            distinct_2_low=0.8,
            distinct_2_high=1.0,
        )
        for strength in (-1.0, 0.0, 1.0)
    )
    table = Calibration(
        rows=rows, safe=(-1.0, 0.5), positions=9, prompts=3, samples=2, tokens=4, top_p=0.9, seed=0
    )
    rates = (Rate(strength=0.0, rate=0.1, rate_low=0.0, rate_high=0.2),)
    effect = Effect(
        style="kind", judge="a judge", prompts="neutral", texts=5, spearman=0.9, rows=rates
    )
    part = replace(whole.domain, calibration=replace(table, seed=None))
    return replace(whole, domain=part, calibration=table, effect=effect, record={"note": 1})


@pytest.mark.parametrize("schema", [1, 2])
def test_what_older_schemas_held_in_the_record_becomes_fields(measured, schema, tmp_path):
    measured.save(tmp_path / "s")
    facts = json.loads((tmp_path / "s" / FACTS).read_text())
    assert facts["schema"] == 3
    assert facts["record"] == {"note": 1}
    for part in (facts, facts["domain"]):
        part["record"] |= {key: part.pop(key) for key in ("calibration", "effect")}
        if part["record"]["effect"] is None:
            del part["record"]["effect"]
    (tmp_path / "s" / FACTS).write_text(json.dumps({**facts, "schema": schema}))
    again = Steer.load(tmp_path / "s")
    assert (again.calibration, again.effect) == (measured.calibration, measured.effect)
    assert again.domain.calibration == measured.domain.calibration
    assert again.domain.effect is None
    assert dict(again.record) == {"note": 1}
    # The same files are refused where a figure is missing.
    del facts["record"]["calibration"]["rows"][0]["kl"]
    (tmp_path / "s" / FACTS).write_text(json.dumps({**facts, "schema": schema}))
    with pytest.raises(ArtefactError, match=r"calibration.*'kl' is a required property"):
        Steer.load(tmp_path / "s")


def test_a_calibration_that_lies_is_refused(measured, tmp_path):
    measured.save(tmp_path / "s")
    facts = json.loads((tmp_path / "s" / FACTS).read_text())
    del facts["calibration"]["rows"][1]
    (tmp_path / "s" / FACTS).write_text(json.dumps(facts))
    with pytest.raises(ArtefactError, match=r"steer\.json: the rows of a calibration must hold"):
        Steer.load(tmp_path / "s")
    nan = replace(measured.calibration, top_p=float("nan"))
    with pytest.raises(InputError, match="finite"):
        replace(measured, calibration=nan).save(tmp_path / "t")


def test_a_record_that_could_not_be_read_again_is_not_written(steer, tmp_path):
    for record, match in (
        ({"x": float("nan")}, "finite"),
        ({"x": {1, 2}}, "what JSON can hold"),
        ({"x": "\ud800"}, "what JSON can hold"),
        ({"samples": 5}, r"record\.samples"),
    ):
        with pytest.raises(InputError, match=match):
            replace(steer, record=record).save(tmp_path / "s")
        assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("number", [10**15, -(10**15), 2**64 - 1])
def test_an_integer_that_is_too_long_to_be_read_is_not_written(steer, number, tmp_path):
    with pytest.raises(InputError, match="is not a number that can be used"):
        replace(steer, record={"seed": number}).save(tmp_path / "steer")
    assert not (tmp_path / "steer").exists()
    longest = {"seed": 10**15 - 1, "other": -(10**15) + 1}
    replace(steer, record=longest).save(tmp_path / "steer")
    assert lmsteer.Steer.load(tmp_path / "steer").record == longest


def test_load_steer_by_path_domain_and_unknown_name(whole, llama, tmp_path):
    whole.save(tmp_path / "s")
    assert lmsteer.load_steer(tmp_path / "s", llama).name == "whole"
    assert torch.equal(lmsteer.load_steer(f"{tmp_path / 's'}.domain", llama).P, whole.domain.P)
    with pytest.raises(NotFoundError, match="no steer 'nosuch'"):
        lmsteer.load_steer("nosuch", llama)


def test_fingerprints_tell_models_apart_but_not_copies(whole, llama, model):
    mark = fingerprint(llama)
    assert fingerprint(llama.to(torch.bfloat16)).matches(mark)
    if model.config.model_type != "llama" or not model.config.tie_word_embeddings:
        assert abs(fingerprint(model).similarity(mark)) < 0.5
        with pytest.raises(MismatchError, match=r"other weights.*cosine"):
            lmsteer.attach(model, {whole: 1.0})
    lmsteer.attach(model, {replace(whole, record={}): 1.0}, check=False).detach()


def test_a_hub_id_is_downloaded_and_checked(whole, llama, tmp_path, monkeypatch):
    whole.save(tmp_path / "hub")
    asked = []

    def snapshot_download(name, **options):
        asked.append(name)
        return str(tmp_path / "hub")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert lmsteer.load_steer("someone/steer", llama).name == "whole"
    assert asked == ["someone/steer"]
    monkeypatch.undo()
    with pytest.raises(NotFoundError, match="the Hub did not give one"):
        lmsteer.load_steer("someone/steer", llama)
