"""Small random models that real engines take: their attention wants heads of 32 and more."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf
from families import Family

import lmsteer
from lmsteer.model.identity import fingerprint

WIDE = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
IDS = {"vocab_size": 259, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
COMMON = {**WIDE, **IDS, "max_position_embeddings": 256, "num_attention_heads": 2}
LLAMA = {**COMMON, "num_key_value_heads": 1}
GPT = {"n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 256, **IDS}
SHAPES = {
    "Llama, tied": (Family("LlamaConfig", LLAMA), True),
    "Llama, untied": (Family("LlamaConfig", LLAMA), False),
    "GPT-2": (Family("GPT2Config", GPT), True),
    "GPT-J": (Family("GPTJConfig", {**GPT, "rotary_dim": 32}), None),
    "GPT-NeoX": (Family("GPTNeoXConfig", COMMON), False),
    "Qwen 2": (Family("Qwen2Config", LLAMA), True),
    "Gemma 2": (
        Family("Gemma2Config", {**LLAMA, "head_dim": 32, "final_logit_softcapping": 5.0}),
        True,
    ),
}


def build(name: str) -> Any:
    family, tied = SHAPES[name]
    model = family.build(tied=tied)
    model.generation_config = hf.GenerationConfig(do_sample=True, eos_token_id=0)
    return model


def steers_for(model: Any) -> list[lmsteer.Steer]:
    """Two steers, the first with a domain part."""
    dim, mark = model.get_output_embeddings().weight.shape[1], fingerprint(model)
    g = torch.Generator().manual_seed(3)
    a, b, c = (
        lmsteer.Steer(*(torch.randn(dim, rank, generator=g) * 0.15 for _ in range(2)), name)
        for rank, name in ((5, "sentiment"), (3, "detox"), (2, "sentiment.domain"))
    )
    first = lmsteer.Steer(a.P, a.Q, a.name, domain=c, fingerprint=mark)
    return [first, lmsteer.Steer(b.P, b.Q, b.name, fingerprint=mark)]


def prompts(count: int, length: int = 12) -> list[list[int]]:
    g = torch.Generator().manual_seed(5)
    sizes = torch.randint(2, length + 1, (count,), generator=g).tolist()
    return [torch.randint(3, 258, (n,), generator=g).tolist() for n in sizes]


@torch.no_grad()
def hooked(model: Any, tokens: list[int], strengths: dict[Any, float]) -> torch.Tensor:
    """Log-probs after each token, by the hook, in the model's own dtype: (tokens, vocab)."""
    with lmsteer.attach(model, strengths):
        logits = model(input_ids=torch.tensor([tokens])).logits[0]
    return torch.log_softmax(logits.double(), dim=-1)
