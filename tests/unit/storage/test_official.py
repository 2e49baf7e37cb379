import argparse
import json
import os

import pytest
import torch
from conftest import build
from typer.testing import CliRunner

import lmsteer
from lmsteer.cli.app import app
from lmsteer.errors import ArtefactError, InputError, NotFoundError, UnsupportedError
from lmsteer.storage.steers import read_steer

EPSILON = 2e-3
IDS = torch.arange(5, 25).view(2, 10)


@pytest.fixture
def state():
    return {"projector1": torch.randn(2, 32, 9), "projector2": torch.randn(2, 32, 9)}


@pytest.fixture
def checkpoint(tmp_path, state):
    options = argparse.Namespace(
        epsilon=EPSILON, model_name="gpt2-large", adaptor_class="multiply", rank=9, cuda=False
    )
    torch.save([options, state, 1000], tmp_path / "sentiment.pt")
    return tmp_path / "sentiment.pt"


def official_logits(model, state, values):
    """The official Projected_Adaptor.forward, written out: values (steers,) for all rows."""
    hidden = lmsteer.model.reading.read_hidden(model, input_ids=IDS)
    delta = (hidden[:, None] @ state["projector1"][None]) * values[None, :, None, None]
    delta = (delta @ state["projector2"].transpose(1, 2)[None]).sum(1)
    return (hidden + EPSILON * delta) @ model.lm_head.weight.T


def test_logits_equal_the_official_formula(checkpoint, state):
    model = build("gpt2")
    steer = lmsteer.storage.import_official(checkpoint, model=model, steer=0, dummy=1)
    assert steer.name == "sentiment"
    assert steer.record["official"]["model_name"] == "gpt2-large"
    for value in (5.0, -5.0):
        with lmsteer.attach(model, {steer: value, steer.domain: 1.0}):
            found = model(IDS).logits
        truth = official_logits(model, state, torch.tensor([value, 1.0]))
        assert torch.allclose(found, truth, atol=1e-4 * float(truth.abs().max()))
    with lmsteer.attach(model, {steer: 5.0}):
        found = model(IDS).logits
    truth = official_logits(model, state, torch.tensor([5.0, 0.0]))
    assert torch.allclose(found, truth, atol=1e-4 * float(truth.abs().max()))


def test_without_a_dummy_there_is_no_domain(checkpoint):
    assert lmsteer.storage.import_official(checkpoint, steer=1).domain is None


class Evil:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_a_pickle_that_would_run_code_is_not_loaded(tmp_path, state):
    evil = Evil(str(tmp_path / "was-here"))
    for content in ([evil, state, 1], [argparse.Namespace(x=evil), state, 1]):
        torch.save(content, tmp_path / "evil.pt")
        with pytest.raises(ArtefactError, match="could run code"):
            lmsteer.storage.import_official(tmp_path / "evil.pt")
        assert not (tmp_path / "was-here").exists()


def test_other_classes_and_mistakes_are_refused_with_a_reason(tmp_path, checkpoint, state):
    options = argparse.Namespace(epsilon=1e-3)
    for key, shape, why in (("add_vec", (2, 32), "adds one"), ("offset_vec", (2, 99), "blacklist")):
        torch.save([options, {key: torch.randn(shape)}, 1], tmp_path / "other.pt")
        with pytest.raises(UnsupportedError, match=why):
            lmsteer.storage.import_official(tmp_path / "other.pt")
    for content in (state, [options, {"weight": torch.ones(2)}, 1]):
        torch.save(content, tmp_path / "other.pt")
        with pytest.raises(ArtefactError, match="expected a checkpoint"):
            lmsteer.storage.import_official(tmp_path / "other.pt")
    (tmp_path / "text.pt").write_text("no checkpoint at all")
    with pytest.raises(ArtefactError):
        lmsteer.storage.import_official(tmp_path / "text.pt")
    with pytest.raises(NotFoundError):
        lmsteer.storage.import_official(tmp_path / "none.pt")
    with pytest.raises(InputError, match="steers 0 to 1, was asked for 7"):
        lmsteer.storage.import_official(checkpoint, steer=7)
    wide = build("llama-tied")
    wide.lm_head = torch.nn.Linear(48, 259, bias=False)
    with pytest.raises(InputError, match="width 32, this one has 48"):
        lmsteer.storage.import_official(checkpoint, model=wide)


def test_the_command(checkpoint, tmp_path, tokenizer):
    build("gpt2").save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    arguments = ["import", str(checkpoint), "--dummy", "1", "--model", str(tmp_path / "model")]
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "steer"), "--json"])
    assert done.exit_code == 0, done.output
    steer = read_steer(tmp_path / "steer")
    told = json.loads(done.stdout)
    assert (told["name"], told["domain"], told["dim"]) == ("steer", True, 32)
    assert steer.domain is not None
    assert steer.fingerprint is not None
