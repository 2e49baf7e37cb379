"""GeDi: a class-conditional language model weighs each next token by Bayes' rule (2021)."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, logsigmoid

from ...errors import InputError
from ...generation import Generation, generate
from ...model import input_device
from ...states import Progress
from ...text import Batch, Example, sides
from .beside import Guide, Reading, one_beam, rewritten
from .finetune import finetune
from .method import Method

if TYPE_CHECKING:
    from typing import Self

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

RATE = 3e-4
GENERATIVE = 0.6
"""Weight of the generative loss (the paper's lambda); the discriminative one has the rest."""
RHO, TAU = 0.2, 0.8
"""Of the paper's filter (equation 7); see `unlikely`."""


class GeDi(Method):
    """Scores of the base model, plus strength times the log-posterior of the wanted class.

    One copy of the base model is fine-tuned to write texts of either side behind a control code,
    by the paper's generative and discriminative loss. In use it reads the text behind both codes;
    Bayes' rule over the two likelihoods, each the geometric mean over the tokens so far and the
    candidate, gives the probability that the text goes on in the wanted class. The magnitude of a
    strength is the paper's omega (30 there), its sign the class.

    `generate` applies the paper's filter, `attach` alone leaves every token possible, so that any
    text can be scored. The filter does not fade with the strength: next to 0 it acts alone.
    """

    name = "gedi"
    order = 120
    in_paper = True
    source = (
        "Krause et al. 2021; a guide of the base model's own size, the first token of a text "
        "is not counted, no repetition penalty"
    )
    strengths = (2.0, 10.0, 30.0)
    generate_options = {"share_prompts": False}  # noqa: RUF012 - never changed

    def __init__(self, guide: PreTrainedModel, codes: tuple[int, int], scale: float) -> None:
        self.guide, self.codes, self.scale = guide, codes, scale
        self.parameters = sum(p.numel() for p in guide.parameters()) + 1

    @classmethod
    def fit(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        examples: Sequence[Example],
        *,
        seed: int = 0,
        progress: Progress | None = None,
        codes: tuple[str, str] = ("positive", "negative"),
    ) -> Self:
        """One class-conditional model; see `Method.fit`.

        Args:
            model: The base model.
            tokenizer: The model's own tokenizer.
            examples: Labelled texts; the labels' signs are the classes, neutral texts are left out.
            seed: The seed of the order of the texts.
            progress: Called as ``progress(stage, done, total)``.
            codes: The control words of the classes above and below 0, of which the first token
                counts.

        Raises:
            InputError: A class has no texts, or both codes begin with the same token.
        """
        above, below = sides(examples)
        words = tokenizer(list(codes), add_special_tokens=False)["input_ids"]
        first, second = (int(word[0]) for word in words)
        if first == second:
            raise InputError(f"the control codes {codes} begin with the same token; take others")
        guide = copy.deepcopy(model)
        scale = nn.Parameter(torch.ones((), device=model.device))

        def loss(module: nn.Module, batch: Batch) -> Tensor:
            return class_losses(module, batch, (first, second), scale)

        finetune(
            guide,
            tokenizer,
            above + below,
            [*guide.parameters(), scale],
            rate=RATE,
            seed=seed,
            loss=loss,
            per="text",
            progress=progress,
        )
        guide.requires_grad_(False)
        return cls(guide, (first, second), float(scale.detach()))

    @contextlib.contextmanager
    def attach(
        self, model: PreTrainedModel, strength: float, *, filtered: bool = False
    ) -> Iterator[PreTrainedModel]:
        """The model with its scores rewritten; strength 0 is the model itself.

        Args:
            model: The base model.
            strength: The paper's omega, with the sign of the class.
            filtered: Whether the tokens that the paper's filter names become impossible.
        """
        if not strength:
            yield model
            return
        codes = self.codes if strength > 0 else self.codes[::-1]
        posterior = _Posterior(Guide(self.guide, model.device), codes, self.scale)

        def rewrite(scores: Tensor, reading: Reading) -> Tensor:
            wanted = posterior(reading)
            scores = scores + abs(strength) * wanted
            return scores.masked_fill(unlikely(scores, wanted), -math.inf) if filtered else scores

        with rewritten(model, rewrite):
            yield model

    def generate(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[str],
        strength: float,
        **options: Any,
    ) -> list[Generation]:
        """Continue prompts, with the paper's filter; `top_p` is taken of what it leaves.

        Raises:
            UnsupportedError: Beam search was asked for.
        """
        one_beam(options)
        options = {**self.generate_options, **options}
        with self.attach(model, strength, filtered=True) as steered:
            return self.named(generate(steered, tokenizer, prompts, **options), strength)


class _Posterior:
    """Log-probability of the wanted class after each candidate token, call by call."""

    def __init__(self, guide: Guide, codes: tuple[int, int], scale: float) -> None:
        self.guide, self.codes, self.scale = guide, codes, scale
        self.last = self.total = self.count = torch.empty(0)

    def __call__(self, reading: Reading) -> Float[Tensor, "rows kept vocab"]:
        chances = self.guide.scores(reading.behind(self.codes)).float().log_softmax(-1)
        if reading.past:
            before = torch.cat([self.last[:, None], chances[:, :-1]], 1)
        else:  # the code's own position comes first
            before, chances = chances[:, :-1], chances[:, 1:]
            self.total = chances.new_zeros(len(chances))
            self.count = chances.new_zeros(len(reading.ids))
        self.last = chances[:, -1]
        # As in training, a text's first token counts for neither class.
        counted = reading.mask[:, reading.past :] * (reading.positions >= 1)
        read = before.gather(-1, reading.ids.repeat(2, 1)[..., None])[..., 0]
        total = self.total[:, None] + (read * counted.repeat(2, 1)).cumsum(1)
        count = self.count[:, None] + counted.cumsum(1)
        self.total, self.count = total[:, -1], count[:, -1]
        kept = slice(-reading.keep if reading.keep else None, None)
        wanted, other = (total[:, kept, None] + chances[:, kept]).chunk(2)
        return logsigmoid(self.scale * (wanted - other) / (count[:, kept, None] + 1))


def unlikely(
    weighted: Float[Tensor, "*rows vocab"],
    wanted: Float[Tensor, "*rows vocab"],
    rho: float = RHO,
    tau: float = TAU,
) -> Tensor:
    """The paper's filter (equation 7): which tokens are left out.

    In falling order of the class's posterior, tokens stay until they hold more than `rho` of the
    probability; of the others stay those whose posterior reaches `tau`.

    Args:
        weighted: The scores after the posterior is added.
        wanted: The log-posterior of the wanted class.
        rho: The probability that the tokens of the largest posterior must exceed, in [0, 1].
        tau: The posterior at and above which every token stays, in [0, 1].
    """
    rising, order = wanted.sort(-1)
    mass = weighted.float().softmax(-1).gather(-1, order).cumsum(-1)
    out = (mass < 1 - rho) & (rising < math.log(tau))
    return torch.zeros_like(out).scatter(-1, order, out)


def class_losses(
    model: nn.Module, batch: Batch, codes: tuple[int, int], scale: Tensor
) -> Float[Tensor, " rows"]:
    """The paper's loss (equations 2 to 5) of each text.

    `GENERATIVE` times its NLL per token behind its own code, and the rest times the NLL of its
    class by Bayes' rule over the two codes, with a learned scale.
    """
    device = input_device(model)
    ids, mask = batch.input_ids.to(device), batch.attention_mask.to(device)
    positions = torch.arange(ids.shape[1], device=device).expand_as(ids)
    both = Reading(ids, mask, positions, past=0, cached=False, keep=0).behind(codes)
    scores = Guide(model).scores(both)[:, 1:-1]
    is_target = batch.is_target[:, 1:].to(device)
    nll = cross_entropy(
        scores.flatten(0, 1).float(), ids[:, 1:].repeat(2, 1).flatten(), reduction="none"
    )
    sums = (nll.view(2, *is_target.shape) * is_target).sum(-1)
    means = (sums / is_target.sum(-1)).T
    side = (batch.labels[:, 0].to(device) < 0).long()
    own = means.gather(1, side[:, None])[:, 0]
    named = cross_entropy(-scale * means, side, reduction="none")
    return GENERATIVE * own + (1 - GENERATIVE) * named
