"""Every family that is tested: a tiny configuration, and how its head makes scores.

`scores` of a family is the naive formula on hidden rows in a given dtype; it is written here by
hand, from each family's paper or source, and never read from the library under test.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import transformers as hf
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

VOCAB, DIM, CONTEXT = 259, 32, 64
WIDTH = {"hidden_size": DIM, "intermediate_size": 48, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
IDS = {"vocab_size": VOCAB, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
COMMON = {**IDS, "max_position_embeddings": CONTEXT}
LLAMA = {**WIDTH, **HEADS, **COMMON}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}


@dataclass(frozen=True)
class Family:
    """One tiny model.

    Args:
        config: Its class, in transformers.
        options: Of the configuration.
        scale: What the scores are multiplied by.
        softcap: What they are capped at.
        ties: Whether both a tied and an untied model exist.
        note: What the table says of it.
    """

    config: str
    options: dict[str, Any] = field(default_factory=dict)
    scale: float = 1.0
    softcap: float | None = None
    ties: bool = True
    note: str = ""

    def build(self, *, tied: bool | None = None) -> Any:
        """A fresh model, the same one every time; weights large enough to make scores differ."""
        torch.manual_seed(sum(map(ord, self.config)))
        options = dict(self.options)
        if tied is not None:
            options["tie_word_embeddings"] = tied
        config = getattr(hf, self.config)(**options)
        auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        model = auto.from_config(config).eval().requires_grad_(False)
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and "A_log" not in name:
                parameter.normal_(std=0.12)
        head = model.get_output_embeddings()
        if head.bias is not None:
            head.bias.normal_()
        late = getattr(model, "final_logits_bias", None)
        if late is not None:
            late.normal_()
        return model

    def scores(self, model: Any, rows: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """The formula, in `dtype`."""
        head = model.get_output_embeddings()
        scores = rows.to(dtype) @ head.weight.to(dtype).T
        if head.bias is not None:
            scores = scores + head.bias.to(dtype)
        late = getattr(model, "final_logits_bias", None)
        if late is not None:
            scores = scores + late.to(dtype)
        scores = scores * self.scale
        return scores if self.softcap is None else self.softcap * torch.tanh(scores / self.softcap)


GPT = {"n_embd": DIM, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT, **IDS}
FAMILIES = {
    "GPT-2": Family("GPT2Config", GPT),
    "GPT-Neo": Family(
        "GPTNeoConfig",
        {**COMMON, "hidden_size": DIM, "num_layers": 2, "num_heads": 4}
        | {"attention_types": [[["global", "local"], 1]], "window_size": 16},
    ),
    "GPT-J": Family("GPTJConfig", {**GPT, "rotary_dim": 4}, ties=False, note="bias in the head"),
    "GPT-NeoX (Pythia)": Family("GPTNeoXConfig", {**WIDTH, **COMMON, "num_attention_heads": 4}),
    "OPT": Family(
        "OPTConfig",
        {**COMMON, "hidden_size": DIM, "ffn_dim": 48, "num_hidden_layers": 2}
        | {"num_attention_heads": 4, "word_embed_proj_dim": 16},
        note="embeddings narrower than the model",
    ),
    "Llama": Family("LlamaConfig", LLAMA),
    "Mistral": Family("MistralConfig", {**LLAMA, "sliding_window": 16}),
    "Mixtral": Family("MixtralConfig", {**LLAMA, "num_local_experts": 4}, note="experts"),
    "Qwen 2": Family("Qwen2Config", LLAMA),
    "Qwen 3": Family("Qwen3Config", {**LLAMA, "head_dim": 8}),
    "Qwen 3 MoE": Family("Qwen3MoeConfig", {**LLAMA, **EXPERTS, "head_dim": 8}, note="experts"),
    "Gemma 2": Family(
        "Gemma2Config",
        {**LLAMA, "head_dim": 8, "final_logit_softcapping": 5.0},
        softcap=5.0,
        note="soft-capped scores, scaled embeddings",
    ),
    "Gemma 3": Family("Gemma3TextConfig", {**LLAMA, "head_dim": 8}, note="scaled embeddings"),
    "Phi": Family("PhiConfig", LLAMA, ties=False, note="bias in the head"),
    "Phi-3": Family("Phi3Config", LLAMA),
    "Granite": Family(
        "GraniteConfig", {**LLAMA, "logits_scaling": 4.0}, scale=0.25, note="scaled scores"
    ),
    "Cohere": Family(
        "CohereConfig", {**LLAMA, "logit_scale": 0.25}, scale=0.25, note="scaled scores"
    ),
    "Falcon": Family("FalconConfig", {**WIDTH, **COMMON, "num_attention_heads": 4}),
    "BLOOM": Family("BloomConfig", {**IDS, "hidden_size": DIM, "n_layer": 2, "n_head": 4}),
    "StableLM": Family("StableLmConfig", LLAMA),
    "OLMo 2": Family("Olmo2Config", LLAMA),
    "SmolLM3": Family("SmolLM3Config", LLAMA),
    "DeepSeek-V3": Family(
        "DeepseekV3Config",
        {**LLAMA, "num_key_value_heads": 4, "moe_intermediate_size": 24, "n_routed_experts": 4}
        | {"num_experts_per_tok": 2, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1}
        | {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4}
        | {"v_head_dim": 8, "n_shared_experts": 1},
        note="experts, latent attention",
    ),
    "Mamba": Family(
        "MambaConfig",
        {**IDS, "hidden_size": DIM, "num_hidden_layers": 2, "state_size": 8},
        note="a state instead of a KV cache",
    ),
    "GPT-OSS": Family(
        "GptOssConfig", {**LLAMA, "head_dim": 8, "num_local_experts": 4}, note="experts"
    ),
    "T5": Family(
        "T5Config",
        {**IDS, "d_model": DIM, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
        | {"decoder_start_token_id": 0},
        ties=False,
        note="encoder-decoder; cannot be merged",
    ),
    "BART": Family(
        "BartConfig",
        {**COMMON, "d_model": DIM, "encoder_layers": 2, "decoder_layers": 2}
        | {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 48}
        | {"decoder_ffn_dim": 48, "decoder_start_token_id": 0, "forced_eos_token_id": None},
        ties=False,
        note="encoder-decoder; bias after the head; cannot be merged",
    ),
}
