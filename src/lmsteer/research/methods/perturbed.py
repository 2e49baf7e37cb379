"""A model that writes while a classifier's gradient moves its keys and values (PPLM, section 3)."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, pad

from ...errors import UnsupportedError
from ...model import alone, cache_name, head_of, input_tables, read_head, read_hidden

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel

ITERATIONS, GAMMA, KL_SCALE, GM_SCALE = 10, 1.0, 0.01, 0.9
"""Steps per token, the power of the gradient's norm that divides it, the weight of the KL to the
base model, and the share of the moved model in the geometric mean: the authors' sentiment example
(their README), and for the last, where that has 0.95, what Liu et al. 2021 compared with. On the
bundled model 3 steps of 0.3 do what 10 of 0.1 do at a third of the time, but 3 of 0.5 no more."""

Memory = list[tuple[Tensor, Tensor]]
"""Keys and values of each layer, ``(rows, heads, seq, dim)``."""


class Perturbed(nn.Module):
    """What `lmsteer.generate` takes for a model: it has its embeddings, and writes by its own loop.

    For each token: keys and values of all tokens but the last move `ITERATIONS` times along the
    gradient of the classifier's log-probability (of the hidden states so far and of one expected
    next token, read on the base model's own memory), less the KL to the base model; the moved
    memory stays for the tokens that follow. The token is drawn from the geometric mean of the
    two distributions. All rows of a batch go together, each with a gradient norm of its own.
    """

    def __init__(
        self, model: PreTrainedModel, weight: Float[Tensor, " dim"], bias: float, strength: float
    ) -> None:
        super().__init__()
        self.model, self.bias = model, bias
        self.sign, self.step = (1.0 if strength > 0 else -1.0), abs(strength)
        self.head = read_head(model)
        self.weight = weight.to(self.head.weight.device)
        self.config, self.generation_config = model.config, model.generation_config

    def get_input_embeddings(self) -> nn.Module:
        """The model's."""
        return self.model.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module:
        """The model's."""
        head: nn.Module = head_of(self.model)
        return head

    def generate(
        self,
        input_ids: Int[Tensor, "rows seq"],
        attention_mask: Int[Tensor, "rows seq"],
        generation_config: GenerationConfig,
        logits_processor: Sequence[Any],
        **options: Any,
    ) -> Int[Tensor, "rows longer"]:
        """Prompts padded on the left, continued, as the model's own `generate` does greedily.

        Raises:
            UnsupportedError: Beam search, or an option that only the model's own `generate` has.
        """
        if options or (generation_config.num_beams or 1) > 1:
            raise UnsupportedError(
                "PPLM writes by its own loop: it takes samples, lengths, temperature, top_p and "
                f"seed, not beams or {sorted(options)}"
            )
        with alone(self.model), torch.inference_mode(False), torch.no_grad():
            return self._continue(
                input_ids.clone(), attention_mask.clone(), generation_config, logits_processor
            )

    def _continue(
        self, ids: Tensor, mask: Tensor, how: GenerationConfig, processors: Sequence[Any]
    ) -> Tensor:
        told = how.eos_token_id if isinstance(how.eos_token_id, list) else [how.eos_token_id]
        ends = torch.tensor([end for end in told if end is not None], device=ids.device)
        unfinished = torch.ones_like(ids[:, 0], dtype=torch.bool)
        own: Memory = []
        total = torch.zeros((), device=ids.device)
        if ids.shape[1] > 1:
            hidden, own = self._read(own, mask[:, :-1], input_ids=ids[:, :-1])
            total = hidden.masked_fill(~mask[:, :-1, None].bool(), 0.0).sum(1)
        moved = own
        for written in range(how.max_new_tokens or 0):
            last = ids[:, -1:]
            hidden, longer = self._read(own, mask, input_ids=last)
            plain = self.head.logits(hidden[:, -1]).float().log_softmax(-1)
            if moved:
                moved = self.push(moved, longer, mask, last, total, plain)
            pushed, moved = self._read(moved, mask, input_ids=last)
            chances = self.head.logits(pushed[:, -1]).float().log_softmax(-1)
            scores = GM_SCALE * chances + (1 - GM_SCALE) * plain
            if written < (how.min_new_tokens or 0):
                scores[:, ends] = float("-inf")
            for processor in processors:
                scores = processor(ids, scores)
            token = torch.where(unfinished, scores.argmax(-1), how.pad_token_id)
            unfinished = unfinished & ~torch.isin(token, ends)
            ids = torch.cat([ids, token[:, None]], 1)
            mask = pad(mask, (0, 1), value=1)
            own, total = longer, total + hidden[:, -1]
            if not bool(unfinished.any()):
                break
        return ids

    def push(
        self,
        memory: Memory,
        own: Memory,
        mask: Int[Tensor, "rows seq"],
        last: Int[Tensor, "rows 1"],
        total: Float[Tensor, "rows dim"],
        plain: Float[Tensor, "rows vocab"],
    ) -> Memory:
        """The memory after one token's steps along the gradient.

        Args:
            memory: Keys and values of all tokens but the last, as earlier tokens have moved them.
            own: The base model's own keys and values, of all tokens.
            mask: 0 on pads, for all tokens.
            last: The last token.
            total: The sum of the base model's hidden states over all tokens but the last.
            plain: The base model's log-probabilities of the next token.
        """
        change = [tuple(torch.zeros_like(part) for part in layer) for layer in memory]
        for _ in range(ITERATIONS):
            with torch.enable_grad():
                change = [tuple(part.requires_grad_() for part in layer) for layer in change]
                objective = self.objective(_added(memory, change), own, mask, last, total, plain)
                flat = torch.autograd.grad(
                    objective.sum(), [part for layer in change for part in layer]
                )
            gradients = list(zip(flat[::2], flat[1::2], strict=True))
            change = [
                tuple(
                    part.detach() + self.step * slope / _norm(slopes)
                    for part, slope in zip(layer, slopes, strict=True)
                )
                for layer, slopes in zip(change, gradients, strict=True)
            ]
        return _added(memory, change)

    def objective(
        self,
        memory: Memory,
        own: Memory,
        mask: Tensor,
        last: Tensor,
        total: Tensor,
        plain: Tensor,
    ) -> Float[Tensor, " rows"]:
        """What the steps raise: log-probability of the class, less the KL; arguments of `push`."""
        hidden, _ = self._read(memory, mask, input_ids=last)
        chances = self.head.logits(hidden[:, -1]).float().log_softmax(-1)
        expected = chances.exp().to(hidden) @ input_tables(self.model)[0].weight
        further = pad(mask, (0, 1), value=1)
        ahead, _ = self._read(own, further, inputs_embeds=expected[:, None])
        # The authors let no gradient through the last token's own hidden state.
        whole = total + hidden[:, -1].detach() + ahead[:, -1]
        score = (whole / further.sum(1, keepdim=True)).float() @ self.weight + self.bias
        kl = (chances.exp() * (chances - plain)).sum(-1)
        return logsigmoid(self.sign * score) - KL_SCALE * kl

    def _read(self, memory: Memory, mask: Tensor, **inputs: Tensor) -> tuple[Tensor, Memory]:
        """Hidden states of the tokens that follow a memory, and the memory after them."""
        from transformers import DynamicCache

        cache = DynamicCache(config=self.model.config)
        for number, (keys, values) in enumerate(memory):
            cache.update(keys, values, number)
        if "position_ids" in inspect.signature(self.model.forward).parameters:
            length = next(iter(inputs.values())).shape[1]
            inputs["position_ids"] = (mask.cumsum(-1) - 1).clamp_min(0)[:, -length:]
        hidden = read_hidden(
            self.model,
            attention_mask=mask,
            use_cache=True,
            **{cache_name(self.model): cache},
            **inputs,
        )
        layers: Any = cache.layers
        return hidden, [(layer.keys, layer.values) for layer in layers]


def _added(memory: Memory, change: Sequence[tuple[Tensor, ...]]) -> Memory:
    return [
        (keys + further[0], values + further[1])
        for (keys, values), further in zip(memory, change, strict=True)
    ]


def _norm(slopes: tuple[Tensor, ...]) -> Float[Tensor, "rows 1 1 1"]:
    """Of a layer's keys and values together, for each row, to the power of gamma."""
    square = sum(slope.flatten(1).square().sum(1) for slope in slopes)
    norm: Tensor = torch.as_tensor(square).sqrt() + 1e-15  # no gradient, no step
    return norm[:, None, None, None] ** GAMMA
