"""Small checkpoints of other formats as folders that `lmsteer.load_model` reads.

    python -m experiments.checkpoints.convert stories260k CHECKPOINTS/stories260k OUT
    python -m experiments.checkpoints.convert storybyte-nano CHECKPOINTS/storybyte-nano OUT

``stories260k`` is llama2.c's legacy format (a header of seven int32, then float32 matrices),
``storybyte-nano`` GPT-2 as an npz. ``bitllama`` (ternary weights, llama2.c's version with a magic
number) is no Llama of transformers: `bitllama_model` builds one whose linear maps are replaced.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, normalizers
from tokenizers.models import BPE
from torch import Tensor, nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)


def llama2c_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a ``tok*.bin``: pieces with scores; the best-scoring pair merges first."""
    raw, place = path.read_bytes(), 4
    pieces: list[tuple[float, str]] = []
    while place < len(raw):
        score, length = struct.unpack_from("<fi", raw, place)
        pieces.append((score, raw[place + 8 : place + 8 + length].decode()))
        place += 8 + length
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    names += [text.replace(" ", "▁") for _, text in pieces[len(names) :]]
    vocab = {name: number for number, name in enumerate(names)}
    known = sorted(((s, n) for (s, _), n in zip(pieces, names, strict=True)), reverse=True)
    merges = [
        (name[:cut], name[cut:])
        for _, name in known
        for cut in range(1, len(name))
        if vocab[name] > 258 and name[:cut] in vocab and name[cut:] in vocab
    ]
    raw_tokenizer = Tokenizer(
        BPE(vocab=vocab, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    raw_tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    raw_tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    from tokenizers.processors import TemplateProcessing

    raw_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=raw_tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def halves(matrix: Tensor, heads: int) -> Tensor:
    """Rows of wq or wk from neighbouring pairs (llama2.c) to halves (transformers)."""
    rows, columns = matrix.shape
    return matrix.view(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


def stories260k(folder: Path) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """A legacy llama2.c checkpoint with shared classifier."""
    raw = (folder / "stories260K.bin").read_bytes()
    dim, hidden, layers, heads, kv_heads, vocab, context = struct.unpack_from("<7i", raw)
    values, place = torch.from_numpy(np.frombuffer(raw, "<f4", offset=28).copy()), 0

    def take(*shape: int) -> Tensor:
        nonlocal place
        size = int(np.prod(shape))
        place += size
        return values[place - size : place].view(shape)

    kv = dim // heads * kv_heads
    state = {"model.embed_tokens.weight": take(vocab, dim)}
    order = (
        ("input_layernorm", (dim,)),
        ("self_attn.q_proj", (dim, dim)),
        ("self_attn.k_proj", (kv, dim)),
        ("self_attn.v_proj", (kv, dim)),
        ("self_attn.o_proj", (dim, dim)),
        ("post_attention_layernorm", (dim,)),
        ("mlp.gate_proj", (hidden, dim)),
        ("mlp.down_proj", (dim, hidden)),
        ("mlp.up_proj", (hidden, dim)),
    )
    for name, shape in order:
        for layer, matrix in enumerate(take(layers, *shape)):
            if "q_proj" in name or "k_proj" in name:
                matrix = halves(matrix, heads if "q_proj" in name else kv_heads)
            state[f"model.layers.{layer}.{name}.weight"] = matrix
    state["model.norm.weight"] = take(dim)
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    config = _llama(dim, hidden, layers, heads, kv_heads, vocab, context)
    model = LlamaForCausalLM(config)
    model.load_state_dict(state)
    return model.eval(), llama2c_tokenizer(folder / "tok512.bin")


def _llama(
    dim: int, hidden: int, layers: int, heads: int, kv_heads: int, vocab: int, context: int
) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=dim,
        intermediate_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        vocab_size=vocab,
        max_position_embeddings=context,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )


def storybyte_nano(folder: Path) -> tuple[GPT2LMHeadModel, PreTrainedTokenizerFast]:
    """GPT-2 as an npz whose ``.w``/``.g``/``.b`` are transformers' ``.weight`` and ``.bias``."""
    arrays = np.load(folder / "nano_kd.npz")
    endings = {"w": "weight", "g": "weight", "b": "bias"}
    state: dict[str, Tensor] = {}
    for name in arrays.files:
        stem, _, last = name.rpartition(".")
        full = f"{stem}.{endings[last]}" if last in endings else f"{name}.weight"
        state[f"transformer.{full}"] = torch.from_numpy(arrays[name].copy()).float()
    state["lm_head.weight"] = state["transformer.wte.weight"]
    config = GPT2Config(
        vocab_size=len(state["lm_head.weight"]),
        n_embd=96,
        n_layer=2,
        n_head=4,
        n_positions=256,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = GPT2LMHeadModel(config)
    model.load_state_dict(state)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer_ext.json"),
        eos_token="<|endoftext|>",
        bos_token="<|endoftext|>",
        additional_special_tokens=["<|req|>", "<|story|>", "<|talk|>", "<|notalk|>"],
    )
    return model.eval(), tokenizer


class Ternary(nn.Module):
    """A linear map with weights in {-s, 0, s} on its input over its norm and root of length."""

    def __init__(self, weight: Tensor, scale: float) -> None:
        super().__init__()
        self.register_buffer("weight", weight * scale)
        self.out_features, self.in_features = weight.shape

    def forward(self, x: Tensor) -> Tensor:
        """``(..., in) -> (..., out)``."""
        x = x / (x.norm(dim=-1, keepdim=True) + 1e-12) * x.shape[-1] ** -0.5
        return x @ self.weight.T


def bitllama_model(folder: Path, tokenizer: Path) -> tuple[Any, PreTrainedTokenizerFast]:
    """The ternary Llama; it has no attention and feed-forward norms."""
    raw = (folder / "bit_model.bin").read_bytes()
    dim, hidden, layers, heads, kv_heads, vocab, context = struct.unpack_from("<7i", raw, 8)
    floats = torch.from_numpy(np.frombuffer(raw, "<f4", dim + vocab * dim, 256).copy())
    place = 256 + 4 * (dim + vocab * dim)
    model: Any = LlamaForCausalLM(_llama(dim, hidden, layers, heads, kv_heads, vocab, context))
    model.model.norm.weight.data = floats[:dim]
    model.model.embed_tokens.weight.data = floats[dim:].view(vocab, dim)
    model.tie_weights()
    kv = dim // heads * kv_heads
    order = (
        ("self_attn.q_proj", dim, dim),
        ("self_attn.k_proj", kv, dim),
        ("self_attn.v_proj", kv, dim),
        ("self_attn.o_proj", dim, dim),
        ("mlp.gate_proj", hidden, dim),
        ("mlp.down_proj", dim, hidden),
        ("mlp.up_proj", hidden, dim),
    )
    values = torch.tensor([0.0, 1.0, 0.0, -1.0])
    for name, rows, columns in order:
        for layer in model.model.layers:
            (scale,) = struct.unpack_from("<f", raw, place)
            packed = np.frombuffer(raw, np.uint8, rows * columns // 4, place + 4)
            place += 4 + rows * columns // 4
            # The first weight lies in the highest two bits.
            codes = np.stack([packed >> shift & 3 for shift in (6, 4, 2, 0)], axis=1)
            matrix = values[torch.from_numpy(codes.astype(np.int64))].view(rows, columns)
            if name.endswith(("q_proj", "k_proj")):
                matrix = halves(matrix, heads if "q_proj" in name else kv_heads)
            owner, _, last = name.rpartition(".")
            setattr(layer.get_submodule(owner), last, Ternary(matrix, scale))
    for layer in model.model.layers:
        layer.input_layernorm = layer.post_attention_layernorm = nn.Identity()
    assert place == len(raw), "the file holds more than the weights"
    return model.eval().requires_grad_(False), llama2c_tokenizer(tokenizer)


CONVERTERS = {"stories260k": stories260k, "storybyte-nano": storybyte_nano}


def main() -> None:
    """Convert one checkpoint."""
    if len(sys.argv) != 4 or sys.argv[1] not in CONVERTERS:
        raise SystemExit(__doc__)
    name, source, out = sys.argv[1:]
    model, tokenizer = CONVERTERS[name](Path(source))
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    print(json.dumps({"out": out, "parameters": sum(p.numel() for p in model.parameters())}))


if __name__ == "__main__":
    main()
