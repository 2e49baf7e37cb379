"""Head tuning: an output embedding of its own for each side, on frozen hidden states."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from ...errors import MismatchError
from ...model import Head, head_of
from ...states import Progress, States
from ...text import Example, sides
from .frozen import minimise, read_frozen
from .method import Method

if TYPE_CHECKING:
    from typing import Self

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

EPOCHS, RATE = 2, 0.01
Change = Float[Tensor, "vocab dim"]


class HeadTuning(Method):
    """Every output embedding learned anew for each side, by the likelihood of its texts.

    What a steer does with a map of ``dim x rank``, with ``vocab x dim`` free numbers. At a strength
    s the head is ``E + s (E' - E)``: 1 is the head as learned. A tied input table stays as it is.

    Args:
        changes: ``E' - E`` of the positive side and of the negative one, ``(vocab, dim)`` each.
    """

    name = "head"
    order = 70
    source = "ours: fine-tuning of the output embedding alone, stopped on held-out texts"
    strengths = (2.0, 4.0)

    def __init__(self, changes: tuple[Change, Change]) -> None:
        self.changes = changes
        self.parameters = changes[0].numel()

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
        """Learn two heads, one per side; see `Method.fit`."""
        above, below = (
            _change(model, tokenizer, side, f"fit {sign}", seed, progress)
            for side, sign in zip(sides(examples), "+-", strict=True)
        )
        return cls((above, below))

    @contextlib.contextmanager
    def attach(self, model: PreTrainedModel, strength: float) -> Iterator[PreTrainedModel]:
        """The same model with its scores moved by ``s h (E' - E)^T``.

        Raises:
            MismatchError: The model has another head.
        """
        head = head_of(model)
        change = self.changes[0 if strength > 0 else 1]
        if change.shape != head.weight.shape:
            raise MismatchError(
                f"learned for a head of shape {tuple(change.shape)}, this model's is "
                f"{tuple(head.weight.shape)}; fit it on this model"
            )
        if not strength:
            yield model
            return
        change = (abs(strength) * change).to(head.weight)

        def after(module: Any, args: Any, scores: Tensor) -> Tensor:
            return scores + linear(args[0], change)

        handle = head.register_forward_hook(after)
        try:
            yield model
        finally:
            handle.remove()


def _change(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    stage: str,
    seed: int,
    progress: Progress | None,
) -> Change:
    """What the texts add to each output embedding."""
    frozen = read_frozen(model, tokenizer, examples, progress=progress)
    change = torch.zeros_like(frozen.head.weight)

    def loss(head: Head, states: States) -> Tensor:
        weight = head.weight + change.to(head.weight.dtype)
        scores = linear(states.hidden.to(weight.dtype), weight, head.bias)
        return cross_entropy(head.finish(scores).float(), states.targets, reduction="none")

    # An embedding moves by about the rate per step: relative to its own size.
    rate = RATE * float(frozen.head.weight.float().std())
    optimiser = torch.optim.Adam([change], lr=rate)
    minimise(
        frozen, change, loss, optimiser, epochs=EPOCHS, stage=stage, seed=seed, progress=progress
    )
    return change.cpu()
