"""Learning on frozen hidden states, which SWB and head tuning share: read once, then fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...model import Head, read_head
from ...states import Progress, States, read_states
from ...text import Example, encode, split_held_out
from ...training import by_gradient, descend, warmed_up
from .finetune import MAX_LENGTH

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH_TOKENS = 4096
EVALUATIONS = 8
WARM_UP = 4  # steps


@dataclass(frozen=True, eq=False)
class Frozen:
    """A head, and the states that it reads of texts to learn from and of those to stop by.

    Args:
        head: Of the model, in float32.
        states: To learn from.
        held_out: A tenth of the texts; None where there are fewer than 20.
    """

    head: Head
    states: States
    held_out: States | None


def read_frozen(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    *,
    progress: Progress | None = None,
) -> Frozen:
    """One pass of the trunk over all texts, in bf16 where the hardware has products of it."""
    encoded = encode(tokenizer, examples, max_length=MAX_LENGTH)
    kept, held_out = split_held_out([examples[i] for i in encoded.source], 0.1)
    states = read_states(model, encoded.only([*kept, *held_out]), progress=progress, fast=True)
    first, last = states.split(len(kept))
    return Frozen(read_head(model), first, last if held_out else None)


Loss = Callable[[Head, States], Tensor]
"""From a head and states to the NLL of each target, ``(held,)``, with gradients."""


def minimise(
    frozen: Frozen,
    parameter: Tensor,
    loss: Loss,
    optimiser: torch.optim.Optimizer,
    *,
    adjust: Callable[[Tensor], Tensor] = lambda slope: slope,
    epochs: int,
    stage: str = "fit",
    seed: int = 0,
    progress: Progress | None = None,
) -> list[float]:
    """Descend in one parameter by batches of tokens; the best on the held-out states is kept.

    Args:
        frozen: What is read.
        parameter: What is learned, in place; without gradients of its own.
        loss: Depends on `parameter`.
        optimiser: Of `parameter`; its rate is warmed up, then falls linearly to 0.
        adjust: From the gradient of the mean loss to what the optimiser is told.
        epochs: Over the tokens.
        stage: What `progress` is told.
        seed: Of the order of the tokens.
        progress: Called as ``progress(stage, done, total)``, in steps.

    Returns:
        Held-out loss at the start and at each look, in nats a token.
    """
    head, count = frozen.head.fast(), len(frozen.states)
    total = max(1, epochs * -(-count // BATCH_TOKENS))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    parameter.requires_grad_()

    def gradient(step: int) -> None:
        places = torch.arange(step * BATCH_TOKENS, (step + 1) * BATCH_TOKENS) % count
        batch = frozen.states.take(order[places[:count]])
        parameter.grad = adjust(_slope(head, batch, parameter, loss))

    held_out = frozen.held_out
    went = descend(
        [parameter],
        by_gradient(optimiser, gradient, warmed_up(optimiser, total, WARM_UP)),
        total,
        judge=None if held_out is None else lambda: mean_loss(head, held_out, loss),
        every=max(1, total // EVALUATIONS),
        look_first=True,
        stage=stage,
        progress=progress,
    )
    parameter.requires_grad_(False)
    parameter.grad = None
    return [nll for _, _, nll in went.course]


def _slope(head: Head, batch: States, parameter: Tensor, loss: Loss) -> Tensor:
    """Gradient of the mean loss; the scores of a few tokens are held at once."""
    total = torch.zeros_like(parameter)
    for part in head.chunks(len(batch)):
        numbers = torch.arange(part.start, part.stop)
        (slope,) = torch.autograd.grad(loss(head, batch.take(numbers)).sum(), parameter)
        total += slope
    return total / len(batch)


@torch.no_grad()
def mean_loss(head: Head, states: States, loss: Loss) -> float:
    """In nats a token."""
    total = 0.0
    for block in states.blocks():
        for part in head.chunks(len(block)):
            numbers = torch.arange(part.start, part.stop)
            total += float(loss(head, block.take(numbers)).sum())
    return total / len(states)
