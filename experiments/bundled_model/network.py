"""The network while it trains: a Llama in plain torch, arranged for bf16 matrix units.

Same function as `LlamaForCausalLM` (`to_llama` copies the weights; `train.py` checks the logits
before it saves). What differs is where the time goes: the trunk is compiled whole, attention is
written as batched products (the fused kernel's backward pass is several times slower on CPUs), and
the scores of the vocabulary are computed, used and dropped a few hundred tokens at a time together
with their gradient, so that they never leave the cache.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, rms_norm, silu
from transformers import LlamaConfig, LlamaForCausalLM

TOKENS_A_CHUNK = 512


class Network(nn.Module):
    """Master weights in float32; all products in bf16."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        dim, inner = config.hidden_size, config.intermediate_size

        def matrix(rows: int, columns: int, std: float) -> nn.Parameter:
            return nn.Parameter(torch.randn(rows, columns) * std)

        # A layer's two writers begin at zero, so that the network begins as its embeddings.
        self.layers = nn.ModuleList(
            nn.ParameterDict(
                {
                    **{name: matrix(dim, dim, dim**-0.5) for name in "qkv"},
                    "o": matrix(dim, dim, 0.0),
                    "gate": matrix(inner, dim, dim**-0.5),
                    "up": matrix(inner, dim, dim**-0.5),
                    "down": matrix(dim, inner, 0.0),
                    "norm1": nn.Parameter(torch.ones(dim)),
                    "norm2": nn.Parameter(torch.ones(dim)),
                }
            )
            for _ in range(config.num_hidden_layers)
        )
        self.embed = matrix(config.vocab_size, dim, 0.02)
        self.norm = nn.Parameter(torch.ones(dim))
        self.head = (
            self.embed if config.tie_word_embeddings else matrix(config.vocab_size, dim, 0.005)
        )
        self.compiled = torch.compile(self.hidden)

    def hidden(self, ids: Tensor) -> Tensor:
        """What the head reads, ``(rows, seq, dim)`` in bf16."""
        eps = self.config.rms_norm_eps
        rows, seq = ids.shape
        heads = self.config.num_attention_heads
        width = self.config.hidden_size // heads
        frequency = 10000.0 ** -(torch.arange(0, width, 2, device=ids.device) / width)
        angle = torch.outer(torch.arange(seq, device=ids.device).float(), frequency)
        angle = torch.cat([angle, angle], dim=1)
        cos, sin = angle.cos(), angle.sin()
        # Added, not filled in: a boolean mask keeps the compiled softmax from being vectorised.
        future = torch.full((seq, seq), -1e4, device=ids.device).triu(1)

        def turned(x: Tensor) -> Tensor:
            x = x.view(rows, seq, heads, width).transpose(1, 2).float()
            left, right = x.chunk(2, dim=-1)
            x = x * cos + torch.cat([-right, left], dim=-1) * sin
            return x.bfloat16().reshape(rows * heads, seq, width)

        x = nn.functional.embedding(ids, self.embed.bfloat16())
        for layer in self.layers:
            w = {name: value.bfloat16() for name, value in layer.items()}
            normed = rms_norm(x.float(), (x.shape[-1],), layer["norm1"], eps).bfloat16()
            q, k = turned(linear(normed, w["q"])), turned(linear(normed, w["k"]))
            v = linear(normed, w["v"]).view(rows, seq, heads, width).transpose(1, 2)
            scores = torch.bmm(q, k.transpose(1, 2)).float() * width**-0.5
            share = (scores + future).softmax(-1).bfloat16()
            read = torch.bmm(share, v.reshape(rows * heads, seq, width))
            read = read.view(rows, heads, seq, width).transpose(1, 2).reshape(rows, seq, -1)
            x = x + linear(read, w["o"])
            normed = rms_norm(x.float(), (x.shape[-1],), layer["norm2"], eps).bfloat16()
            x = x + linear(silu(linear(normed, w["gate"])) * linear(normed, w["up"]), w["down"])
        return rms_norm(x.float(), (x.shape[-1],), self.norm, eps).bfloat16()

    def step(self, ids: Tensor) -> float:
        """Mean loss in nats a token of ``(rows, seq + 1)`` ids; adds its gradient to `.grad`."""
        hidden = self.compiled(ids[:, :-1])
        flat, targets = hidden.detach().flatten(0, 1), ids[:, 1:].flatten()
        head = self.head.detach().bfloat16()
        slope = torch.empty_like(flat)
        head_slope = torch.zeros_like(self.head)
        loss = torch.zeros((), device=ids.device)
        rows = torch.arange(TOKENS_A_CHUNK, device=ids.device)
        for start in range(0, len(flat), TOKENS_A_CHUNK):
            part = slice(start, start + TOKENS_A_CHUNK)
            goal = targets[part, None]
            scores = flat[part] @ head.T
            total, error = _shares(scores)
            loss += (total - scores.gather(1, goal)).sum()
            error[rows[: len(goal)], goal[:, 0]] -= 1.0
            slope[part] = error @ head
            head_slope += error.T @ flat[part]
        hidden.backward((slope / len(flat)).view_as(hidden))
        head_slope /= len(flat)
        self.head.grad = head_slope if self.head.grad is None else self.head.grad + head_slope
        return float(loss) / len(flat)

    @torch.no_grad()
    def to_llama(self) -> LlamaForCausalLM:
        """The same network for transformers, in float32."""
        names = {
            "self_attn.q_proj": "q",
            "self_attn.k_proj": "k",
            "self_attn.v_proj": "v",
            "self_attn.o_proj": "o",
            "mlp.gate_proj": "gate",
            "mlp.up_proj": "up",
            "mlp.down_proj": "down",
            "input_layernorm": "norm1",
            "post_attention_layernorm": "norm2",
        }
        state = {"model.embed_tokens.weight": self.embed, "model.norm.weight": self.norm}
        state["lm_head.weight"] = self.head
        for number, layer in enumerate(self.layers):
            for theirs, ours in names.items():
                state[f"model.layers.{number}.{theirs}.weight"] = layer[ours]
        llama = LlamaForCausalLM(self.config)
        llama.load_state_dict(state)
        return llama.eval()


@torch.compile
def _shares(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Log of the sum of exponentials, in float32, and the probabilities, in bf16."""
    scores = scores.float()
    most = scores.amax(-1, keepdim=True)
    raised = (scores - most).exp()
    total = raised.sum(-1, keepdim=True)
    return most + total.log(), (raised / total).bfloat16()
