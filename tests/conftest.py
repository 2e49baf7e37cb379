"""Tiny models and examples, built here: no download, no file outside the repository."""

import copy
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores
    os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GPTJConfig,
    GraniteConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

import lmsteer

SHARED = Path(__file__).parents[2] / "shared" / "data"
SHAPES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
SMALL = {"vocab_size": 259, "max_position_embeddings": 64, "eos_token_id": 0, "bos_token_id": 0}
SMALL |= {"pad_token_id": 0}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 259}
GPT |= {"bos_token_id": 0, "eos_token_id": 0}
CONFIGS = {
    "llama-tied": LlamaConfig(**SHAPES, **HEADS, **SMALL, tie_word_embeddings=True),
    "llama-untied": LlamaConfig(**SHAPES, **HEADS, **SMALL, tie_word_embeddings=False),
    "gpt2": GPT2Config(**GPT),
    "gptj-bias": GPTJConfig(**GPT, rotary_dim=4),
    "gemma2-softcap": Gemma2Config(**SHAPES, **HEADS, **SMALL, head_dim=8),
    "granite-scale": GraniteConfig(**SHAPES, **HEADS, **SMALL, logits_scaling=8.0),
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _as_loud_as_before():
    """What a command hushes is loud again after its test, also where `main` was not the way in."""
    yield
    display = sys.modules.get("lmsteer.cli.display")
    if display is not None:
        with display.unhushed():
            pass


def build(name):
    torch.manual_seed(sum(map(ord, name)))
    # A copy: tables that a test resizes change the configuration of their model.
    config = copy.deepcopy(CONFIGS[name])
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    for parameter in model.parameters():  # initial weights are small; make logits count
        if parameter.ndim == 2:
            parameter.mul_(4.0)
    if name == "gptj-bias":
        model.lm_head.bias.normal_()
    return model


@pytest.fixture(params=list(CONFIGS))
def model(request):
    return build(request.param)


@pytest.fixture
def llama():
    return build("llama-tied")


@pytest.fixture(scope="session")
def tokenizer():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i + 1 for i, token in enumerate(alphabet)} | {"<end>": 0}
    raw = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<end>", pad_token="<end>")


@pytest.fixture
def examples():
    good, bad = ("good", "fine", "great", "sweet"), ("bad", "poor", "awful", "sour")
    return [
        lmsteer.Example(f"{opening} {word}.", label)
        for opening in ("it is", "how very", "this was", "that looks", "all so")
        for words, label in ((good, 1.0), (bad, -1.0))
        for word in words
    ]


@pytest.fixture
def steer():
    return lmsteer.Steer(torch.randn(32, 5) * 0.2, torch.randn(32, 5) * 0.2, "style")


@pytest.fixture(scope="session")
def shared():
    if not SHARED.is_dir():
        pytest.skip("shared/data is not beside the project")
    return SHARED


@pytest.fixture(scope="session")
def bundled():
    return lmsteer.load_model("bundled")


@pytest.fixture
def folder(llama, tokenizer, tmp_path):
    llama.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def deep(tmp_path, monkeypatch):
    """A folder to work in, so deep that what climbs out of it is still among the test's own."""
    work = tmp_path / "1" / "2" / "3" / "4"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    return work


@pytest.fixture
def save_named(llama, tmp_path):
    """Saves a steer to a folder, under a name that need not be one."""
    mark = lmsteer.model.identity.fingerprint(llama)
    made = []

    def made_steer(path, name, *, domain=True, **facts):
        torch.manual_seed(len(made))
        made.append(name)
        P, Q, D = (torch.randn(32, 2) * 0.5 for _ in range(3))
        part = lmsteer.Steer(D, Q, "x.domain", fingerprint=mark) if domain else None
        lmsteer.Steer(P, Q, "x", domain=part, fingerprint=mark).save(path, force=True)
        told = json.loads((path / "steer.json").read_text())
        (path / "steer.json").write_text(json.dumps({**told, "name": name, **facts}))
        return path

    return made_steer


@pytest.fixture
def moods(save_named, tmp_path):
    """Two different steers that are both called mood."""
    return [save_named(tmp_path / place / "mood", "mood") for place in ("A", "B")]
