"""A tokenizer with merges, which engines read; the second runner; the matrix of what was tested."""

import os
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

INTERPRETED = Path(__file__).parent / "interpreted"
SECOND = {  # vLLM's model runner V2 on a processor: see interpreted/sitecustomize.py
    "PYTHONPATH": os.pathsep.join(filter(None, [str(INTERPRETED), os.environ.get("PYTHONPATH")])),
    "TRITON_INTERPRET": "1",
    "TORCH_COMPILE_DISABLE": "1",  # the compiler would look for a real Triton
    "VLLM_USE_V2_MODEL_RUNNER": "1",
    "VLLM_WORKER_MULTIPROCESSING_METHOD": "spawn",
}
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
