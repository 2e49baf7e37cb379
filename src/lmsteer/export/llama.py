"""A Llama as llama.cpp wants it: names, the order of rotated rows, tokenizer, metadata."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..errors import UnsupportedError
from ..model import LLAMA3_SPLIT
from .checkpoint import Checkpoint

_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_OTHERS = "llama.cpp's own converter takes it: give it an untied copy (lmsteer export folder)"


def check_llama(checkpoint: Checkpoint) -> None:
    """Raise UnsupportedError unless the base can be written here, tokenizer included."""
    config = checkpoint.model.config
    if config.model_type != "llama":
        raise UnsupportedError(
            f"a base GGUF is written here for Llama models, this one is {config.model_type!r}; "
            f"{_OTHERS} with --untie, then export the adapters with base=None (--no-base)"
        )
    if config.attention_bias or config.mlp_bias or config.hidden_act != "silu":
        raise UnsupportedError(
            f"a Llama with biases or another activation than SiLU; {_OTHERS} with --untie"
        )
    if _rope(config)[1] not in ("default", "linear", "llama3"):
        raise UnsupportedError(f"rope of type {_rope(config)[1]!r}; {_OTHERS} with --untie")
    _pretokenizer(_tokenizer(checkpoint))


def tensors(checkpoint: Checkpoint) -> Iterator[tuple[str, Tensor]]:
    """Every tensor under llama.cpp's name, one in memory at a time; the head always among them."""
    config = checkpoint.model.config
    yield "token_embd.weight", checkpoint.read(checkpoint.tables["input"])
    yield "output.weight", checkpoint.read(checkpoint.tables["output"])
    if (factors := _rope_factors(config)) is not None:
        yield "rope_freqs.weight", factors
    yield "output_norm.weight", checkpoint.read(_named(checkpoint, "norm.weight"))
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for layer in range(config.num_hidden_layers):
        for part, name in _LAYER.items():
            tensor = checkpoint.read(_named(checkpoint, f"layers.{layer}.{part}.weight"))
            if name in heads:
                tensor = _interleaved(tensor, heads[name])
            yield f"blk.{layer}.{name}.weight", tensor


def _named(checkpoint: Checkpoint, name: str) -> str:
    return f"model.{name}" if f"model.{name}" in checkpoint.files else name


def _interleaved(weight: Tensor, heads: int) -> Tensor:
    """The rows of a projection, reordered from rotating halves to rotating neighbours."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def _rope(config: Any) -> tuple[float, str, dict[str, Any]]:
    """The base, kind and options of the rotation, which moved between versions of transformers."""
    options = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None)
    options = dict(options or {})
    base = options.get("rope_theta", getattr(config, "rope_theta", 10000.0))
    kind = options.get("rope_type") or options.get("type") or "default"
    return float(base), str(kind), options


def _rope_factors(config: Any) -> Tensor | None:
    """What Llama 3.1 divides its frequencies by; None for other models."""
    base, kind, options = _rope(config)
    if kind != "llama3":
        return None
    size = _head_dim(config)
    wavelengths = 2 * math.pi * base ** (torch.arange(0, size, 2, dtype=torch.float64) / size)
    factor, context = options["factor"], options["original_max_position_embeddings"]
    low, high = options["low_freq_factor"], options["high_freq_factor"]
    smooth = ((context / wavelengths - low) / (high - low)).clamp(0, 1)
    factors: Tensor = (1 / ((1 - smooth) / factor + smooth)).float()
    return factors


def _head_dim(config: Any) -> int:
    return int(
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )


def metadata(writer: Any, checkpoint: Checkpoint, precision: str) -> None:
    """Write the model's shape and its tokenizer."""
    from gguf import LlamaFileType, RopeScalingType

    kinds = {
        "f32": LlamaFileType.ALL_F32,
        "f16": LlamaFileType.MOSTLY_F16,
        "bf16": LlamaFileType.MOSTLY_BF16,
        "q8_0": LlamaFileType.MOSTLY_Q8_0,
    }
    config, size = checkpoint.model.config, _head_dim(checkpoint.model.config)
    base, kind, options = _rope(config)
    writer.add_type("model")
    writer.add_name(str(config._name_or_path).rsplit("/", maxsplit=1)[-1])
    writer.add_file_type(kinds[precision])
    writer.add_quantization_version(2)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(size)
    writer.add_rope_freq_base(base)
    if kind == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(options["factor"]))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    _add_tokenizer(writer, checkpoint)


def _tokenizer(checkpoint: Checkpoint) -> dict[str, Any]:
    path = checkpoint.folder / "tokenizer.json"
    if not path.is_file():
        raise UnsupportedError(f"{checkpoint.folder} has no tokenizer.json; {_OTHERS}")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _pretokenizer(tokenizer: dict[str, Any]) -> str:
    """llama.cpp's name of how text is split before byte-level BPE."""
    step = tokenizer.get("pre_tokenizer") or {}
    steps = step.get("pretokenizers", [step])
    is_bytes = steps[-1].get("type") == "ByteLevel" and not steps[-1].get("add_prefix_space")
    if tokenizer["model"].get("type") == "BPE" and is_bytes and tokenizer["normalizer"] is None:
        if len(steps) == 1 and steps[0].get("use_regex", True):
            return "gpt-2"
        if len(steps) == 2 and steps[0].get("pattern", {}).get("Regex") == LLAMA3_SPLIT:
            return "llama-bpe"
        digits = {"type": "Digits", "individual_digits": True}
        if len(steps) == 2 and steps[0] == digits and steps[1].get("use_regex", True):
            return "smollm"
    raise UnsupportedError(
        "a base GGUF is written here for byte-level BPE tokenizers that split as GPT-2's, "
        f"Llama 3's or SmolLM2's do; {_OTHERS} with --untie"
    )


def _add_tokenizer(writer: Any, checkpoint: Checkpoint) -> None:
    from gguf import SpecialVocab, TokenType

    whole = _tokenizer(checkpoint)
    count = checkpoint.model.config.vocab_size
    words = [f"[PAD{number}]" for number in range(count)]
    kinds = [TokenType.UNUSED] * count
    for word, number in whole["model"]["vocab"].items():
        words[number], kinds[number] = word, TokenType.NORMAL
    for added in whole.get("added_tokens") or []:
        kind = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
        words[added["id"]], kinds[added["id"]] = added["content"], kind
    merges = [m if isinstance(m, str) else " ".join(m) for m in whole["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_pretokenizer(whole))
    writer.add_token_list(words)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    special = SpecialVocab(checkpoint.folder, load_merges=False, n_vocab=count)
    special.add_special_token.setdefault("bos", False)  # llama.cpp's default is to add one
    special.add_to_gguf(writer, quiet=True)
