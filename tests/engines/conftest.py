"""A tokenizer with merges, which engines read; the second runner; the matrix of what was tested."""

import os
from pathlib import Path

import pytest
from runners import SECOND
from shapes import SHAPES
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

TABLE = Path(__file__).parents[2] / "docs" / "engines-tested.md"
ROWS_OF_WAYS = 28  # ways of running an engine, beside the models' shapes

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
    """Rows of docs/engines-tested.md: (engine, what) to how it fares; checked after the last test.

    The table is left alone where not every test has run.
    """
    rows = {}
    yield rows
    if len(rows) >= len(SHAPES) + ROWS_OF_WAYS:
        check_table(rows)


def check_table(rows):
    """Fail unless the table is what the tests found; it is written anew then, to be committed."""
    lines = [
        "# Engines: what is tested",
        "Written by `make test-engines` from its own results, on tiny random models; log-probs of "
        "the whole vocabulary against `lmsteer.attach`. Folders and PEFT adapters are tested on "
        "every family of [families.md](families.md) (`tests/parity/test_exports.py`). vLLM without "
        "further words is its model runner V1; V2 ran on a CPU, its kernels by Triton's "
        "interpreter.",
        "",
        "| engine | model, or way of running | |",
        "|---|---|---|",
    ]
    lines += [f"| {engine} | {what} | {how} |" for (engine, what), how in sorted(rows.items())]
    text = "\n".join(lines) + "\n"
    before = TABLE.read_text() if TABLE.is_file() else ""
    TABLE.write_text(text)
    assert before == text, f"{TABLE.name} was out of date; it has been written anew"
