"""A tokenizer with merges, which engines read; the second runner; the matrix of what was tested."""

import os

import pytest
from runners import SECOND
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

if os.environ.get("TRITON_INTERPRET") != "1":  # they run in a process of their own
    collect_ignore = ["interpreted"]


@pytest.fixture
def second_runner(monkeypatch):
    """The engine's processes run V2 from here on; this one only believes that it has Triton."""
    for name, value in SECOND.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("vllm.config.vllm.HAS_TRITON", True)


@pytest.fixture(scope="session")
def tokenizer():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i + 1 for i, token in enumerate(alphabet)} | {"<end>": 0, "th": 257}
    raw = Tokenizer(models.BPE(vocab=vocab, merges=[("t", "h")]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<end>", pad_token="<end>")


@pytest.fixture(scope="session")
def matrix():
    """Rows of docs/engines-tested.md: (engine, what) to how it fares."""
    return {}
