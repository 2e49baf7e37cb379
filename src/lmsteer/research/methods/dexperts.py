"""DExperts: the scores of two fine-tuned models, subtracted and added (Liu et al. 2021)."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from ...generation import Generation, generate
from ...states import Progress
from ...text import Example
from .beside import Guide, Reading, one_beam, rewritten
from .dapt import DAPT, Weights
from .method import Method

if TYPE_CHECKING:
    from typing import Self

    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class DExperts(Method):
    """Scores of the base model, plus strength times (expert - anti-expert).

    Expert and anti-expert are the base model fine-tuned on the texts of each side; a strength
    below 0 swaps them. The strength is the paper's alpha (3.2 for sentiment, 2.0 against
    toxicity, on GPT-2 large). `generate` takes `top_p` as the authors' code does: the nucleus is
    the base model's, before the experts have their say, and what is left is sampled whole.
    `attach` alone leaves every token possible, so that any text can be scored.
    """

    name = "dexperts"
    order = 110
    in_paper = True
    lender = DAPT
    source = "Liu et al. 2021; experts of the base model's own size, fine-tuned on all its weights"
    strengths = (1.0, 2.0, 3.2)
    generate_options = {"share_prompts": False}  # noqa: RUF012 - never changed

    def __init__(self, experts: tuple[PreTrainedModel, PreTrainedModel]) -> None:
        self.experts = experts
        self.parameters = sum(p.numel() for expert in experts for p in expert.parameters())

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
        tuned = DAPT.fit(model, tokenizer, examples, seed=seed, progress=progress)
        return cls.borrow(tuned, model)

    @classmethod
    def borrow(cls, lent: DAPT, model: PreTrainedModel) -> Self:
        """The two fine-tuned models that DAPT has already learned, as copies of the base model."""
        above, below = lent.changes
        return cls((_moved(model, above), _moved(model, below)))

    @contextlib.contextmanager
    def attach(
        self, model: PreTrainedModel, strength: float, *, nucleus: float = 1.0
    ) -> Iterator[PreTrainedModel]:
        """The model with its scores rewritten; strength 0 is the model itself.

        Args:
            model: The base model.
            strength: The paper's alpha, with a sign.
            nucleus: The probability mass of the base model's nucleus. Below 1, tokens outside it
                become impossible; see `within_nucleus`.
        """
        if not strength:
            yield model
            return
        expert, anti_expert = (Guide(expert, model.device) for expert in self.experts)

        def rewrite(scores: Tensor, reading: Reading) -> Tensor:
            change = expert.scores(reading) - anti_expert.scores(reading)
            return within_nucleus(scores, nucleus) + strength * change

        with rewritten(model, rewrite):
            yield model

    def generate(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[str],
        strength: float,
        *,
        top_p: float = 1.0,
        **options: Any,
    ) -> list[Generation]:
        """Continue prompts; `top_p` is the mass of the base model's nucleus.

        Raises:
            UnsupportedError: Beam search was asked for.
        """
        one_beam(options)
        options = {**self.generate_options, **options}
        if not strength:
            options["top_p"] = top_p
        with self.attach(model, strength, nucleus=top_p) as steered:
            return self.named(generate(steered, tokenizer, prompts, **options), strength)


def within_nucleus(scores: Float[Tensor, "*rows vocab"], top_p: float) -> Tensor:
    """The scores, -inf outside the likeliest tokens whose probabilities reach `top_p`."""
    if top_p >= 1:
        return scores
    chance, order = scores.float().softmax(-1).sort(-1, descending=True)
    outside = chance.cumsum(-1) - chance >= top_p
    return scores.masked_fill(torch.zeros_like(outside).scatter(-1, order, outside), float("-inf"))


def _moved(model: PreTrainedModel, change: Weights) -> PreTrainedModel:
    moved = copy.deepcopy(model)
    moved.eval()
    moved.requires_grad_(False)
    parameters = dict(moved.named_parameters())
    for name, delta in change.items():
        parameters[name].add_(delta)
    return moved
