"""A small transformer that has learned a language of this room, and what its head reads there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import nn

from ...model import read_head, read_hidden
from ...states import Progress
from ...training import by_gradient, descend
from .contexts import Contexts
from .hmm import Array, Hmm

TEXTS_A_STEP = 256
_RATE = 1e-2
_BEGIN = "<s>"


@dataclass(frozen=True, eq=False)
class Trunk:
    """A trained model of a language, with a tokenizer that knows its words by letters.

    Args:
        model: A Llama of one or two heads, in eval mode, frozen. Its vocabulary is the language's
            and a token that every text begins with.
        tokenizer: A tokenizer whose words are the letters a, b, c, ...
        vocab: The number of words.
    """

    model: nn.Module
    tokenizer: Any
    vocab: int

    def write(self, texts: Int64[Array, "texts length"]) -> list[str]:
        """The texts in letters."""
        return [" ".join(map(_letter, words)) for words in texts.tolist()]

    @torch.no_grad()
    def read(self, contexts: Contexts) -> Float64[Array, "contexts dim"]:
        """The row that the head reads after each context."""
        return contexts.each(
            lambda group: (
                read_hidden(self.model, input_ids=self._ids(group))[:, -1].double().numpy()
            )
        )

    def head(self) -> Float64[Array, "tokens dim"]:
        """The head's embeddings: of the words, then of the token that begins a text."""
        return np.asarray(read_head(self.model, torch.float64).weight.numpy())

    def _ids(self, texts: Array) -> torch.Tensor:
        return nn.functional.pad(torch.from_numpy(texts), (1, 0), value=self.vocab)


def train_trunk(
    language: Hmm,
    length: int,
    *,
    dim: int,
    steps: int,
    seed: int,
    progress: Progress | None = None,
) -> Trunk:
    """Train a small Llama on texts drawn from a language, each seen once.

    The global random state is left as it was.

    Args:
        language: The language to learn.
        length: The number of words per text.
        dim: The width of the model.
        steps: The number of steps of Adam, each on `TEXTS_A_STEP` new texts.
        seed: The seed of the weights and of the texts.
        progress: Called as ``progress("trunk", step, steps)``.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    # No padding token: its embedding would stay at 0, and texts of one length need none.
    config = LlamaConfig(
        hidden_size=dim,
        intermediate_size=2 * dim,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        vocab_size=language.vocab + 1,
        max_position_embeddings=length + 1,
        tie_word_embeddings=False,
        bos_token_id=language.vocab,
        eos_token_id=language.vocab,
        pad_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    trunk = Trunk(model, _tokenizer(language.vocab), language.vocab)
    draw = np.random.default_rng(seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=steps)

    def gradient(step: int) -> None:
        ids = trunk._ids(language.sample(TEXTS_A_STEP, length, draw))
        scores = model(input_ids=ids[:, :-1]).logits
        nn.functional.cross_entropy(scores.flatten(0, 1), ids[:, 1:].flatten()).backward()

    parameters = list(model.parameters())
    move = by_gradient(optimiser, gradient, schedule)
    descend(parameters, move, steps, stage="trunk", progress=progress)
    model.eval().requires_grad_(False)
    return trunk


def _letter(word: int) -> str:
    return chr(ord("a") + word)


def _tokenizer(vocab: int) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokens = {_letter(word): word for word in range(vocab)} | {_BEGIN: vocab}
    raw = Tokenizer(models.WordLevel(tokens, unk_token=_BEGIN))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.post_processor = processors.TemplateProcessing(
        single=f"{_BEGIN} $A", special_tokens=[(_BEGIN, vocab)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=_BEGIN, unk_token=_BEGIN)
