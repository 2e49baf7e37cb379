"""A tokenizer with merges, which engines read; and the matrix of what was tested."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast


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
