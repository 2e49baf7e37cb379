"""A model's head as a plain function, and the NLL of tokens under it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..errors import UnsupportedError
from .modes import evaluating, fast_dtype
from .reading import read_hidden
from .tables import affine, decoder_start, head_of, input_device, text_config
from .wrappers import unwrap

# The number of scores that are held at once, tokens x vocab, so that memory does not grow with the
# data; and the least number of tokens, since fewer would read the whole head for little work.
_SCORES_AT_ONCE, _FEWEST_TOKENS = 1 << 22, 128
# On a CPU, sums over the vocabulary take it in blocks whose scores stay in the processor's cache:
# twice as fast for 262,144 tokens as whole rows of scores, and a hundredth of their memory.
_COLUMNS, _ROWS = 2048, 512


@dataclass(frozen=True, eq=False)
class Head:
    """The scores of the vocabulary as a plain function of hidden rows.

    ``logits = softcap * tanh(scale * (h @ weight.T + bias) / softcap)``, without the tanh where
    `softcap` is None. `read_head` builds one and checks it against the model's own output.
    """

    weight: Float[Tensor, "vocab dim"]
    bias: Float[Tensor, " vocab"] | None
    scale: float = 1.0
    softcap: float | None = None

    def logits(self, hidden: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows vocab"]:
        """The scores as the model itself computes them."""
        scores = nn.functional.linear(hidden, self.weight, self.bias)
        return self.finish(scores)

    def chunks(self, count: int) -> Iterator[slice]:
        """Slices of `count` rows, small enough to hold the scores of the whole vocabulary."""
        size = self.chunk_tokens
        for start in range(0, count, size):
            yield slice(start, min(start + size, count))

    @property
    def chunk_tokens(self) -> int:
        """The number of tokens whose scores are held at once."""
        return max(_FEWEST_TOKENS, _SCORES_AT_ONCE // self.weight.shape[0])

    def blocks(self) -> Iterator[slice]:
        """Slices of the vocabulary: blocks on a CPU, all of it elsewhere."""
        vocab = self.weight.shape[0]
        size = _COLUMNS if self.weight.device.type == "cpu" else vocab
        for start in range(0, vocab, size):
            yield slice(start, min(start + size, vocab))

    def rows_for_blocks(self, count: int) -> Iterator[slice]:
        """Slices of `count` rows, as many as suit the size of `blocks`."""
        if self.weight.device.type != "cpu":
            yield from self.chunks(count)
            return
        for start in range(0, count, _ROWS):
            yield slice(start, min(start + _ROWS, count))

    def part(self, block: slice) -> Head:
        """The head of a slice of the vocabulary alone; a view, not a copy."""
        bias = None if self.bias is None else self.bias[block]
        return replace(self, weight=self.weight[block], bias=bias)

    def finish(self, scores: Tensor) -> Tensor:
        """What the model does to the scores after the head: a scale, a soft-cap, or nothing."""
        if self.scale != 1.0:
            scores = scores * self.scale
        if self.softcap is None:
            return scores
        return torch.tanh(scores / self.softcap) * self.softcap

    def finish_(self, scores: Tensor) -> Tensor:
        """Add the bias and do what `finish` does, in place."""
        if self.bias is not None:
            scores += self.bias
        if self.scale != 1.0:
            scores *= self.scale
        if self.softcap is not None:
            scores.div_(self.softcap).tanh_().mul_(self.softcap)
        return scores

    def fast(self) -> Head:
        """The same head for approximate work: bf16 where this device multiplies bf16 natively."""
        dtype = fast_dtype(self.weight.device)
        bias = None if self.bias is None else self.bias.to(dtype)
        return replace(self, weight=self.weight.to(dtype), bias=bias)

    @property
    def is_linear(self) -> bool:
        """True when scores are affine in the hidden row, which makes training convex."""
        return self.softcap is None


@torch.no_grad()
def read_head(model: nn.Module, dtype: torch.dtype = torch.float32) -> Head:
    """The head of a model as a plain function, checked against the model on two tokens.

    Raises:
        UnsupportedError: The model changes its scores by something other than a scale or a
            soft-cap, so that a steer would be trained for another function than the model's.
    """
    module, inside = head_of(model), unwrap(model)
    probe = {"input_ids": torch.tensor([[0, 1]], device=input_device(model))}
    if decoder_start(model) is not None:
        probe["decoder_input_ids"] = probe["input_ids"]
    with evaluating(inside):
        raw = module(read_hidden(inside, **probe)).double()
        final = inside(**probe, use_cache=False).logits.double().to(raw.device)
        weight, bias = affine(module)
    late: Any = getattr(inside, "final_logits_bias", None)  # BART adds it after the head
    if late is not None:
        bias = late[0] if bias is None else bias + late[0]
        raw = raw + late.double()
    softcap = getattr(text_config(model), "final_logit_softcapping", None)
    scale = float((raw * final).sum() / raw.square().sum()) if softcap is None else 1.0
    head = Head(
        weight.to(dtype),
        None if bias is None else bias.to(dtype),
        1.0 if abs(scale - 1.0) < 1e-3 else scale,
        softcap,
    )
    error = float((head.finish(raw) - final).abs().max() / final.abs().max().clamp_min(1e-6))
    if error > 0.02:  # bf16 rounds to 0.4%; anything structural is far beyond this
        raise UnsupportedError(
            f"{type(inside).__name__} changes its scores after the head in a way that is neither "
            f"a scale nor a soft-cap (relative error {error:.2g}); training needs to know it"
        )
    return head


@torch.no_grad()
def token_nll(
    head: Head, rows: Float[Tensor, "tokens dim"], targets: Int[Tensor, " tokens"]
) -> Float[Tensor, " tokens"]:
    """The negative log-likelihood of each target, in nats.

    With a bf16 head (`Head.fast`) scores are rounded to about 0.4%; sums stay in float32. Memory
    beyond the result is some megabytes on a CPU, however large the vocabulary is.
    """
    nll = rows.new_empty(len(rows), dtype=torch.float32)
    for part in head.rows_for_blocks(len(rows)):
        given, wanted = rows[part].to(head.weight.dtype), targets[part]
        total = torch.full_like(nll[part], -torch.inf)
        own = torch.empty_like(total)
        for block in head.blocks():
            scores = head.part(block).logits(given).float()
            place = wanted - block.start
            here = (place >= 0) & (place < scores.shape[1])
            found = scores.gather(1, place.clamp(0, scores.shape[1] - 1)[:, None])[:, 0]
            own = torch.where(here, found, own)
            total = torch.logaddexp(total, log_sum(scores))
        nll[part] = (total - own).clamp_min_(0.0)
    return nll


def log_sum(scores: Float[Tensor, "rows columns"]) -> Float[Tensor, " rows"]:
    """``logsumexp`` of each row of float32 scores, which are written over."""
    # A row may be -inf throughout, where a head forbids the tokens of a whole block.
    top = scores.amax(-1, keepdim=True).clamp_min_(torch.finfo(scores.dtype).min)
    return scores.sub_(top).exp_().sum(-1).log_().add_(top[:, 0])
