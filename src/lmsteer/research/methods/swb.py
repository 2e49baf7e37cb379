"""SWB, the soft word blacklist: one learned offset per word, whatever the context.

The simplest rival of a steer (Han et al. 2024, their baseline "Soft-Blacklist"): scores move by
``strength * offset``, the same for every position. It is also the only method that reaches models
behind an API that takes a `logit_bias`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from ...errors import InputError, MismatchError
from ...model import Head, head_of
from ...states import Progress, States
from ...text import Example
from .frozen import Frozen, minimise, read_frozen
from .method import Method
from .offsets import read_official_offsets, read_offsets, write_offsets

if TYPE_CHECKING:
    from typing import Self

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

EPOCHS, RATE, MOMENTUM = 2, 0.01, 0.9
# On SST-5 (195k tokens, base 4.303 nats held out) precisions of 1, 3 and 10 reach 4.211, 4.208 and
# 4.214; three times the rate, 4.217.
PRIOR = 3.0
"""Precision of the prior on an offset: it pulls as so many sightings of a word would."""
CURVATURE_TOKENS = 8192
LARGEST_BIAS = 100.0


class SWB(Method):
    """Offsets for every word of the vocabulary, added to the scores times the strength.

    Learned as a steer is: a text labelled y is scored at strength y, with a domain offset for what
    all texts share, which generation leaves out. The loss is convex: there is one optimum.

    Args:
        offset: ``(vocab,)``, in nats, on the final scores (after a head's scale or soft-cap).
        domain: ``(vocab,)``, what all texts share; None where that is not known.
    """

    name = "swb"
    order = 50
    in_paper = True
    source = "Han et al. 2024, Soft-Blacklist; with the domain part and graded labels of a steer"
    strengths = (1.5, 3.0, 4.5)

    def __init__(
        self, offset: Float[Tensor, " vocab"], domain: Float[Tensor, " vocab"] | None = None
    ) -> None:
        self.offset, self.domain = offset, domain
        self.parameters = offset.numel()

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
        """Learn the offsets on frozen hidden states; see `Method.fit`.

        Each step is the gradient divided by the diagonal of the curvature, with momentum. The
        result is the state that is best on held-out texts.

        Raises:
            InputError: All labels are the same.
        """
        if len({e.labels[0] for e in examples}) < 2:
            raise InputError("swb needs texts of two different labels, all of these are the same")
        frozen = read_frozen(model, tokenizer, examples, progress=progress)
        parts = torch.zeros(2, len(frozen.head.weight), device=frozen.states.device)

        def loss(head: Head, states: States) -> Tensor:
            scores = head.logits(states.hidden.to(head.weight.dtype)).float()
            scores = scores + states.values(domain=True) @ parts
            return cross_entropy(scores, states.targets, reduction="none")

        solve, count = _curvature(frozen), len(frozen.states)
        optimiser = torch.optim.SGD([parts], lr=RATE, momentum=MOMENTUM)
        minimise(
            frozen,
            parts,
            loss,
            optimiser,
            adjust=lambda slope: torch.einsum(
                "vij,jv->iv", solve, slope + (PRIOR / count) * parts.detach()
            ),
            epochs=EPOCHS,
            seed=seed,
            progress=progress,
        )
        return cls(parts[0].cpu().clone(), parts[1].cpu().clone())

    @contextlib.contextmanager
    def attach(self, model: PreTrainedModel, strength: float) -> Iterator[PreTrainedModel]:
        """The same model with its scores moved.

        Raises:
            MismatchError: The model has another vocabulary.
        """
        vocab = len(head_of(model).weight)
        if len(self.offset) != vocab:
            raise MismatchError(
                f"these offsets are for a vocabulary of {len(self.offset)}, this model has "
                f"{vocab} scores; fit them on this model"
            )
        if not strength:
            yield model
            return
        offset = strength * self.offset

        def after(module: Any, args: Any, output: Any) -> Any:
            output.logits = output.logits + offset.to(output.logits)
            return output

        handle = model.register_forward_hook(after)
        try:
            yield model
        finally:
            handle.remove()

    def to_logit_bias(
        self,
        strength: float = 1.0,
        *,
        most: int = 300,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> dict[str, float]:
        """The `logit_bias` map that hosted APIs take, by OpenAI's conventions.

        An API that limits the number of entries gets the largest, so that the effect is weaker
        than here; one that rounds to whole numbers changes it. Ids are those of the tokenizer
        that the offsets were learned with: for a model with another one, ask for the tokens' text
        and look up ids there.

        Args:
            strength: The factor of the offsets.
            most: The most entries; those furthest from 0 are taken.
            tokenizer: The tokenizer of the model that the offsets were learned on. Keys are then
                the tokens' text; where several tokens have the same text, the largest offset
                counts. None: keys are ids.

        Returns:
            Ids (as JSON writes keys) or text to bias, each in [-100, 100], largest magnitude
            first.

        Raises:
            InputError: `most` is below 1.
        """
        if most < 1:
            raise InputError(f"most must be at least 1, was: {most}")
        bias = (strength * self.offset).clamp(-LARGEST_BIAS, LARGEST_BIAS)
        found: dict[str, float] = {}
        for number in bias.abs().argsort(descending=True, stable=True).tolist():
            if len(found) == most or not bias[number]:
                break
            key = str(number) if tokenizer is None else str(tokenizer.decode([number]))
            found.setdefault(key, float(bias[number]))
        return found

    def save(self, path: str | PathLike[str], *, force: bool = False) -> None:
        """Write one ``.safetensors`` file; see `offsets.write_offsets`."""
        write_offsets(path, self.offset, self.domain, force=force)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read what `save` wrote; see `offsets.read_offsets`."""
        return cls(*read_offsets(path))

    @classmethod
    def from_official(
        cls, path: str | PathLike[str], *, steer: int = 0, dummy: int | None = None
    ) -> Self:
        """Read a checkpoint of the official code's class "offset".

        Its epsilon_0 is folded in: strength 5 is what the paper writes as 5 epsilon_0.

        Args:
            path: The ``.pt`` file; nothing that it pickles is run.
            steer: The number of the offset in the file, counted from 0.
            dummy: The number of the dummy offset, which becomes the domain; None: no domain.
        """
        return cls(*read_official_offsets(path, steer, dummy))


@torch.no_grad()
def _curvature(frozen: Frozen) -> Float[Tensor, "vocab 2 2"]:
    """The inverse of the curvature's diagonal at zero offsets: 2 x 2 per word, with the domain."""
    few, head = frozen.states.spread(CURVATURE_TOKENS), frozen.head.fast()
    total = torch.zeros(len(head.weight), 2, 2, device=few.device)
    for part in head.chunks(len(few.targets)):
        rows, values = few.hidden[part].to(few.device), few.values(domain=True)[part]
        chance = head.logits(rows.to(head.weight.dtype)).softmax(-1, dtype=torch.float32)
        total += torch.einsum("tv,ti,tj->vij", chance, values, values)
    total /= len(few.targets)
    total += (PRIOR / len(frozen.states)) * torch.eye(2, device=few.device)
    inverse: Tensor = torch.linalg.inv(total)
    return inverse
