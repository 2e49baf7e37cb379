"""One frozen pass through a model: what its head reads, for every target token.

The states do not depend on the steer, so each training token needs the trunk only once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .attachment import read_hidden
from .errors import InputError, UnsupportedError
from .examples import Batch, Encoded, batches
from .head import Head, affine, fast_dtype, head_of, text_config

Progress = Callable[[str, int, int], None]
"""Called as ``progress(stage, done, total)``; the command line draws a bar from it."""


# On a CPU twice as many take nearly twice as long: their memory is mapped anew for every layer.
_TOKENS_AT_ONCE = {"cpu": 4096}


@dataclass(frozen=True, eq=False)
class States:
    """Hidden rows of all target tokens of some texts, in the order of the texts.

    Args:
        hidden: ``(tokens, dim)``, the row from which each target is predicted, float32.
        targets: ``(tokens,)``, vocabulary ids.
        text: ``(tokens,)``, the number of the example that each token belongs to.
        labels: ``(tokens,)``, the strength of each token's text, in [-1, 1].
        weights: ``(tokens,)``, what each token counts in the loss; they sum to the token count.
    """

    hidden: Float[Tensor, "tokens dim"]
    targets: Int[Tensor, " tokens"]
    text: Int[Tensor, " tokens"]
    labels: Float[Tensor, " tokens"]
    weights: Float[Tensor, " tokens"]

    def __len__(self) -> int:
        return len(self.targets)

    def select(self, texts: Sequence[int]) -> States:
        """The tokens of the given examples."""
        return self.rows(torch.isin(self.text, torch.tensor(list(texts), dtype=torch.int64)))

    def rows(self, index: Tensor) -> States:
        """The given tokens."""
        index = index.to(self.hidden.device)
        return States(
            self.hidden[index],
            self.targets[index],
            self.text[index],
            self.labels[index],
            self.weights[index],
        )


def read_states(
    model: nn.Module, encoded: Encoded, *, progress: Progress | None = None, fast: bool = False
) -> States:
    """Run the frozen trunk once over all texts and keep the rows that predict targets.

    Args:
        model: A causal language model; put into eval mode for the pass, then back.
        encoded: Tokenised examples, as `examples.encode` returns them.
        progress: Told the number of texts read so far.
        fast: Multiply in bf16 where the hardware has it natively: several times faster, states
            rounded to about 1%.
    """
    parts: list[tuple[Tensor, ...]] = []
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    done = 0
    try:
        with torch.inference_mode(), _autocast(device, fast):
            for batch in batches(encoded, tokens=_TOKENS_AT_ONCE.get(device.type, 16384)):
                parts.append(_target_rows(model, batch, device))
                done += len(batch.labels)
                if progress:
                    progress("read", done, len(encoded))
    finally:
        model.train(was_training)
    if not parts:
        raise InputError("no text has a token to learn from: each needs at least two tokens")
    hidden, targets, text = (torch.cat(columns) for columns in zip(*parts, strict=True))
    # Batches are sorted by length; put the tokens back into the order of the examples.
    order = torch.argsort(text, stable=True)
    text = text[order]
    return States(
        # clone(): tensors made under inference_mode may not enter autograd later.
        hidden[order].clone(),
        targets[order].clone(),
        text.clone(),
        encoded.labels.to(device)[text].float(),
        encoded.token_weights.to(device)[text].float(),
    )


def _autocast(device: torch.device, fast: bool) -> contextlib.AbstractContextManager[Any]:
    dtype = fast_dtype(device)
    if not fast or dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype)


def _target_rows(model: nn.Module, batch: Batch, device: torch.device) -> tuple[Tensor, ...]:
    hidden = read_hidden(
        model,
        input_ids=batch.input_ids.to(device),
        attention_mask=batch.attention_mask.to(device),
    )
    is_target = batch.is_target[:, 1:].to(device)
    text = batch.text[:, None].expand(is_target.shape).to(device)
    return (
        hidden[:, :-1][is_target].float(),
        batch.input_ids[:, 1:].to(device)[is_target],
        text[is_target],
    )


@torch.no_grad()
def read_head(model: nn.Module, dtype: torch.dtype = torch.float32) -> Head:
    """The head of a model as a plain function, checked against the model on two tokens.

    Raises:
        UnsupportedError: The model does something to its scores that is neither a scale nor a
            soft-cap, so that a steer would be trained for another function than the model's.
    """
    if getattr(model.config, "is_encoder_decoder", False):
        raise UnsupportedError("training encoder-decoder models is not supported yet")
    module = head_of(model)
    probe = torch.tensor([[0, 1]], device=next(model.parameters()).device)
    raw = module(read_hidden(model, input_ids=probe)).double()
    final = model(input_ids=probe, use_cache=False).logits.double()
    weight, bias = affine(module)
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
            f"{type(model).__name__} changes its scores after the head in a way that is neither "
            f"a scale nor a soft-cap (relative error {error:.2g}); training needs to know it"
        )
    return head
