"""The pass: in memory, in a file, interrupted, shared among processes, spread by accelerate."""

import json

import pytest
import torch

import lmsteer
from lmsteer.errors import InputError, MismatchError
from lmsteer.states import cache
from lmsteer.states.cache import Keep
from lmsteer.states.hidden import read_states
from lmsteer.states.processes import Workers
from lmsteer.text.encoding import encode


@pytest.fixture
def encoded(tokenizer, examples):
    return encode(tokenizer, examples * 3, max_length=64)


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr("lmsteer.states.hidden._TOKENS_AT_ONCE", {"cpu": 40})
    monkeypatch.setattr("lmsteer.states.hidden.SAVE_EVERY", 4)


@pytest.fixture
def no_memory(monkeypatch):
    """Fail where rows would be held in memory."""
    monkeypatch.setattr(cache.torch, "empty", lambda *a, **k: pytest.fail("held in memory"))


def train(model, tokenizer, examples, **options):
    return lmsteer.train(model, tokenizer, examples, calibrate=False, **options)


def test_a_file_holds_the_same_states_as_memory(llama, encoded, tmp_path, no_memory):
    mapped = read_states(llama, encoded, keep=Keep(memory=0.0))
    kept = read_states(llama, encoded, keep=Keep(folder=tmp_path))
    assert torch.equal(mapped.hidden, kept.hidden)
    (told,) = tmp_path.glob("*.json")
    assert json.loads(told.read_text())["batches"] == 2
    assert (tmp_path / "states-0of1.bin").stat().st_size == mapped.hidden.numel() * 4


def test_memory_and_file_give_one_steer(llama, tokenizer, examples):
    one, two = (train(llama, tokenizer, examples * 2, memory=gib) for gib in (4.0, 0.0))
    assert torch.equal(one.matrix(), two.matrix())


def test_an_interrupted_pass_goes_on(
    llama, tokenizer, examples, tmp_path, small_batches, monkeypatch
):
    whole = train(llama, tokenizer, examples)
    calls = []
    from lmsteer.states import hidden

    read = hidden._target_rows

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return read(*args)

    monkeypatch.setattr(hidden, "_target_rows", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(llama, tokenizer, examples, folder=tmp_path / "work")
    with pytest.raises(InputError, match="interrupted training"):
        train(llama, tokenizer, examples, folder=tmp_path / "work")
    with pytest.raises(MismatchError, match="max_length was 64, is 9"):
        train(llama, tokenizer, examples, folder=tmp_path / "work", resume=True, max_length=9)
    with pytest.raises(MismatchError, match="texts was"):
        train(llama, tokenizer, examples[:-1], folder=tmp_path / "work", resume=True)
    weight = llama.model.layers[0].mlp.up_proj.weight
    before = weight[0, 0].clone()
    weight[0, 0] += 1
    with pytest.raises(MismatchError, match="model was"):
        train(llama, tokenizer, examples, folder=tmp_path / "work", resume=True)
    weight[0, 0] = before
    calls.clear()
    monkeypatch.setattr(hidden, "_target_rows", lambda *a: (calls.append(1), read(*a))[1])
    again = train(llama, tokenizer, examples, folder=tmp_path / "work", resume=True)
    encoded = encode(tokenizer, examples, max_length=64)
    assert len(calls) == len(list(hidden.batch_texts(encoded, 40))) - 6
    assert torch.equal(again.matrix(), whole.matrix())


def test_resume_needs_a_folder(llama, tokenizer, examples):
    with pytest.raises(InputError, match="resume="):
        train(llama, tokenizer, examples, resume=True)


def test_no_room_is_told_before_work(llama, encoded, tmp_path, monkeypatch):
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda folder: type("Disk", (), {"free": 9}))
    with pytest.raises(InputError, match="make room"):
        read_states(llama, encoded, keep=Keep(folder=tmp_path / "work"))


def test_the_parts_of_several_processes_make_the_whole(llama, encoded, small_batches):
    whole = read_states(llama, encoded)
    parts = [read_states(llama, encoded, workers=Workers(rank, 3)) for rank in range(3)]
    hidden = torch.zeros_like(whole.hidden)
    for part in parts:
        assert len(part) == len(whole)
        numbers = (part.places >= 0).nonzero()[:, 0]
        hidden[numbers] = part.take(numbers).hidden
        assert torch.equal(part.take(numbers).targets, whole.targets[numbers])
    assert torch.equal(hidden, whole.hidden)  # the same bits: batches do not depend on the count


def test_a_model_with_layers_on_disk_trains_unchanged(llama, tokenizer, examples, tmp_path):
    accelerate = pytest.importorskip("accelerate")
    texts = examples * 2
    whole = train(llama, tokenizer, texts)
    spread = accelerate.dispatch_model(
        llama,
        {"model.embed_tokens": "cpu", "model.layers.0": "disk", "model.layers.1": "cpu"}
        | {"model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"},
        main_device="cpu",
        offload_dir=tmp_path,
        force_hooks=True,
    )
    assert any(p.device.type == "meta" for p in spread.parameters())
    assert torch.equal(train(spread, tokenizer, texts).matrix(), whole.matrix())


def test_an_untied_head_on_disk_is_read_through_its_hooks(tokenizer, examples, tmp_path):
    accelerate = pytest.importorskip("accelerate")
    from conftest import build

    model = build("llama-untied")
    whole = train(model, tokenizer, examples * 2)
    spread = accelerate.dispatch_model(
        model,
        {"model": "cpu", "lm_head": "disk"},
        main_device="cpu",
        offload_dir=tmp_path,
        force_hooks=True,
    )
    found = train(spread, tokenizer, examples * 2)
    assert (found.matrix() - whole.matrix()).norm() < 1e-2 * whole.matrix().norm()
    with lmsteer.attach(spread, {found: 1.0}):
        assert torch.isfinite(spread(torch.tensor([[1, 2]])).logits).all()
