"""Plain fine-tuning, which several baselines share: AdamW, a warm-up, the best pass is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from ...model import autocast, evaluating, input_device, learning
from ...states import Progress, target_losses
from ...text import (
    Batch,
    Encoded,
    Example,
    batch_texts,
    encode,
    endless_batches,
    pad_batch,
    split_held_out,
)
from ...training import by_gradient, descend

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PASSES, BATCH, WARM_UP = 2, 32, 0.1
MAX_LENGTH = 256
TOKENS_AT_ONCE = 4096

Loss = Callable[[nn.Module, Batch], Tensor]
"""From a model and a batch to what is lost on each target token, ``(targets,)``, or on each text,
``(rows,)``; in nats."""


def finetune(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    parameters: Sequence[nn.Parameter],
    *,
    rate: float,
    passes: int = PASSES,
    seed: int = 0,
    stage: str = "fit",
    loss: Loss = target_losses,
    per: Literal["token", "text"] = "token",
    progress: Progress | None = None,
) -> list[float]:
    """Minimise a loss in some of a model's parameters, by AdamW in place.

    The state after the pass that is best on a tenth of the texts, held out, is kept: a later one
    often does a small model harm.

    Args:
        model: In eval mode throughout (no dropout), its other parameters untouched.
        tokenizer: The model's own.
        examples: To learn from.
        parameters: What is learned.
        rate: Highest learning rate: warmed up over a tenth of the steps, then linearly to 0.
        passes: Over the texts.
        seed: Of their order.
        stage: What `progress` is told.
        loss: Of a batch; the mean is minimised.
        per: What the loss has a value for: each target token, or each text.
        progress: Called as ``progress(stage, done, total)``, in texts.

    Returns:
        Held-out loss before and after each pass, in nats a target token (or a text).
    """
    encoded = encode(tokenizer, examples, max_length=MAX_LENGTH)
    kept, tested = split_held_out([examples[i] for i in encoded.source], 0.1)
    held_out = encoded.only(tested)
    device = input_device(model)
    optimiser = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.0)
    each = -(-len(kept) // BATCH)
    total = passes * each
    warm = max(1, round(WARM_UP * total))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warm, (total - step) / max(1, total - warm))
    )
    batches = endless_batches(encoded, kept, BATCH, seed)

    def gradient(step: int) -> None:
        texts = next(batches)
        chosen = encoded.only(texts)
        mass = int(chosen.target_counts.sum()) if per == "token" else len(texts)
        for part in batch_texts(chosen, TOKENS_AT_ONCE):
            with autocast(device, True):
                losses = loss(model, pad_batch(chosen, part))
            (losses.sum() / mass).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)

    def told(stage: str, done: int, total: int) -> None:
        if progress:
            before, within = divmod(done - 1, each)
            seen = min((within + 1) * BATCH, len(kept))
            progress(stage, before * len(kept) + seen, passes * len(kept))

    with evaluating(model), learning(model, parameters):
        went = descend(
            parameters,
            by_gradient(optimiser, gradient, schedule),
            total,
            judge=(lambda: _mean(model, held_out, loss)) if tested else None,
            every=each,
            look_first=True,
            stage=stage,
            progress=told,
        )
    return [nll for _, _, nll in went.course]


@torch.no_grad()
def _mean(model: nn.Module, encoded: Encoded, loss: Loss) -> float:
    total, count = 0.0, 0
    for texts in batch_texts(encoded, TOKENS_AT_ONCE):
        losses = loss(model, pad_batch(encoded, texts))
        total, count = total + float(losses.sum()), count + len(losses)
    return total / count
