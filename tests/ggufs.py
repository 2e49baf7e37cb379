"""Tiny GGUF files, written by the library gguf from a model of transformers, and what they hold."""

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType, quants
from transformers import LlamaConfig, LlamaForCausalLM

PACKINGS = {
    "Q4_1": (GGMLQuantizationType.Q4_1, LlamaFileType.MOSTLY_Q4_1),
    "Q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "F32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
}
LAYER = {
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


def small_llama(seed=0):
    """A tied Llama whose rows are whole blocks of 32, with heads that share keys."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=260,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        rope_theta=5000.0,
        rms_norm_eps=1e-6,
        bos_token_id=1,
        eos_token_id=0,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.mul_(4.0)
    return model


def names(model):
    """The name of each tensor in the file, by its name in the model."""
    found = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}
    for layer in range(model.config.num_hidden_layers):
        for mine, theirs in LAYER.items():
            found[f"model.layers.{layer}.{mine}"] = f"blk.{layer}.{theirs}"
    return found


def neighbours(rows, heads):
    """Rows of a projection in llama.cpp's order: the halves of each head's rotation alternate."""
    size = len(rows) // heads
    order = [h * size + half * size // 2 + i for h in range(heads) for i in range(size // 2)
             for half in (0, 1)]  # fmt: skip
    return rows[order]


def write_gguf(path, model, words, merges, packing="Q4_1", **fields):
    """Write the model with a byte-level tokenizer; returns the model as the file holds it."""
    kind, whole = PACKINGS[packing]
    config = model.config
    writer = GGUFWriter(path, "llama")
    writer.add_name(fields.pop("name", "A Tiny Model"))
    writer.add_file_type(whole)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(5000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(fields.pop("pre", "gpt-2"))
    writer.add_token_list(words)
    special = fields.pop("special", ("<end>", "<begin>"))
    writer.add_token_types(
        [TokenType.CONTROL if word in special else TokenType.NORMAL for word in words]
    )
    writer.add_token_merges(merges)
    writer.add_eos_token_id(0)
    writer.add_bos_token_id(1)
    for name, value in fields.items():
        getattr(writer, name)(value)
    held = {}
    for mine, theirs in names(model).items():
        tensor = model.get_submodule(mine).weight
        if tensor.ndim == 1:
            writer.add_tensor(f"{theirs}.weight", tensor.numpy())
            held[f"{mine}.weight"] = tensor
            continue
        data = quants.quantize(tensor.numpy(), kind)
        # Reordering rows and packing them commute, since each row is packed by itself.
        held[f"{mine}.weight"] = torch.from_numpy(np.array(quants.dequantize(data, kind)))
        for part, heads in (("attn_q", 4), ("attn_k", 2)):
            if theirs.endswith(part):
                data = neighbours(data, heads)
        writer.add_tensor(f"{theirs}.weight", data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    twin = LlamaForCausalLM(config).eval().requires_grad_(False)
    twin.load_state_dict({**held, "lm_head.weight": held["model.embed_tokens.weight"]})
    return twin
