import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

import lmsteer
from lmsteer.errors import ArtefactError, InputError, MismatchError, NotFoundError
from lmsteer.head import fingerprint
from lmsteer.steer import Steer


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


def test_an_existing_folder_is_refused_and_survives_a_failed_write(
    whole, steer, tmp_path, monkeypatch
):
    path = tmp_path / "s"
    steer.save(path)
    with pytest.raises(InputError, match="exists already.*--force"):
        whole.save(path)

    def broken(*args):
        raise OSError("disk full")

    monkeypatch.setattr("lmsteer.storage.save_file", broken)
    with pytest.raises(OSError, match="disk full"):
        whole.save(path, force=True)
    assert Steer.load(path).name == "style"
    assert [p.name for p in tmp_path.iterdir()] == ["s"]
    monkeypatch.undo()
    whole.save(path, force=True)
    assert Steer.load(path).name == "whole"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="not a steer"):
        whole.save(tmp_path / "mine", force=True)


def test_damaged_and_foreign_folders(whole, tmp_path):
    path = tmp_path / "s"
    with pytest.raises(NotFoundError, match="no steer at"):
        Steer.load(path)
    path.mkdir()
    with pytest.raises(ArtefactError, match=r"has no steer\.json"):
        Steer.load(path)
    path.rmdir()
    whole.save(path)
    tensors, facts = (
        load_file(path / "steer.safetensors"),
        json.loads((path / "steer.json").read_text()),
    )

    def spoil(match, new_tensors=None, **changes):
        save_file(new_tensors or tensors, path / "steer.safetensors")
        (path / "steer.json").write_text(json.dumps({**facts, **changes}))
        with pytest.raises(ArtefactError, match=match):
            Steer.load(path)

    spoil("NaN", {**tensors, "P": torch.full_like(tensors["P"], float("nan"))})
    spoil("expected Q", {k: v for k, v in tensors.items() if k != "Q"})
    spoil("expected P", {**tensors, "P": tensors["P"][:5].contiguous()})
    spoil("schema 99", schema=99)
    spoil("not written by lmsteer", format="other")
    (path / "steer.json").write_text(json.dumps(facts))
    blob = (path / "steer.safetensors").read_bytes()
    (path / "steer.safetensors").write_bytes(blob[: len(blob) // 2])
    with pytest.raises(ArtefactError, match="damaged"):
        Steer.load(path)
    (path / "steer.safetensors").unlink()
    with pytest.raises(ArtefactError, match="copy the whole folder"):
        Steer.load(path)


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
