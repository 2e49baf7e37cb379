"""DAPT: the whole model trained on, on the texts of one side (Gururangan et al. 2020)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...states import Progress
from ...text import Example, sides
from .finetune import finetune
from .method import Method

if TYPE_CHECKING:
    from typing import Self

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

RATE = 3e-4
Weights = dict[str, Tensor]
"""Parameters by name."""


class DAPT(Method):
    """The model trained further on the texts of one side, all weights.

    A strength of 1 is the fine-tuned model. Others lie on the line through it and the base model
    (weights ``base + strength * (tuned - base)``), which is not in the paper: it gives the method
    the curve that the others have.
    """

    name = "dapt"
    order = 100
    in_paper = True
    source = "Gururangan et al. 2020; strengths other than 1 by interpolated weights (ours)"
    frozen = False
    strengths = (0.5, 1.0, 1.5)

    def __init__(self, changes: tuple[Weights, Weights]) -> None:
        self.changes = changes
        self.parameters = sum(change.numel() for change in changes[0].values())

    @classmethod
    def fit(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        examples: Sequence[Example],
        *,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Self:
        """Fine-tune two models, one per side; see `Method.fit`."""
        above, below = sides(examples)
        return cls(
            (
                tuned(model, tokenizer, above, seed=seed, stage="fit +", progress=progress),
                tuned(model, tokenizer, below, seed=seed, stage="fit -", progress=progress),
            )
        )

    @contextlib.contextmanager
    def attach(self, model: PreTrainedModel, strength: float) -> Iterator[PreTrainedModel]:
        """The model with its weights moved; put back afterwards."""
        change = self.changes[0 if strength > 0 else 1] if strength else {}
        parameters = dict(model.named_parameters())
        kept = {name: parameters[name].detach().clone() for name in change}
        with torch.no_grad():
            for name, delta in change.items():
                parameters[name].add_(delta, alpha=abs(strength))
        try:
            yield model
        finally:
            with torch.no_grad():
                for name, value in kept.items():
                    parameters[name].copy_(value)


def tuned(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    **options: Any,
) -> Weights:
    """What fine-tuning on the examples adds to each parameter; labels are ignored."""
    parameters = dict(model.named_parameters())
    kept = {name: value.detach().clone() for name, value in parameters.items()}
    try:
        finetune(model, tokenizer, examples, list(parameters.values()), rate=RATE, **options)
        return {name: value.detach() - kept[name] for name, value in parameters.items()}
    finally:
        with torch.no_grad():
            for name, value in kept.items():
                parameters[name].copy_(value)
