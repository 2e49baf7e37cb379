"""LM-Steer as one method among the others, in four variants."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from ...model import attach
from ...recipes import self_train, train
from ...states import Progress
from ...steer import Site, Steer, StrengthWarning
from ...storage import load_steer
from ...text import Example, sides
from .method import Method

if TYPE_CHECKING:
    from typing import Self

    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Steered(Method):
    """LM-Steer: what `lmsteer.train` learns, as one method among the others."""

    name = "lm-steer"
    order = 10
    in_paper = True
    emphasised = True
    source = "Han et al. 2024; the convex solver of this library, domain part off"
    strengths: ClassVar[tuple[float, ...]] = (2.0, 4.0, 6.0, 8.0)
    site: ClassVar[Site] = "output"
    lender: ClassVar[type[Method] | None] = None

    def __init__(self, steer: Steer, name: str | None = None) -> None:
        self.steer = steer
        self.parameters = 2 * steer.dim * steer.rank
        self.digest = f"{steer.site}-{steer.digest[:12]}"
        if name is not None:
            self.name = name  # type: ignore[misc]

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
        """Train a steer by the solver convex; see `lmsteer.train`.

        Sides of very different size are evened out: the other methods learn each on its own.
        """
        sizes = sorted(len(side) for side in sides(examples))
        options: dict[str, Any] = {"balance": sizes[1] > 2 * sizes[0]}
        options |= {"seed": seed, "progress": progress}
        if cls.site == "output":
            options["solver"] = "convex"  # as in the tables of experiments/paper
        return cls(cls.learn(model, tokenizer, examples, calibrate=False, **options))

    @classmethod
    def learn(cls, *given: Any, **options: Any) -> Steer:
        """The training."""
        return train(*given, site=cls.site, **options)

    @contextmanager
    def attach(self, model: PreTrainedModel, strength: float) -> Iterator[PreTrainedModel]:
        """`lmsteer.attach`; no warning past the safe range, which a comparison means to cross."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", StrengthWarning)
            with attach(model, {self.steer: strength}):
                yield model


class WithinNucleus(Steered):
    """LM-Steer that chooses among what the base model itself finds likely, as DExperts does.

    Attached alone, or scoring a given text, it is LM-Steer.
    """

    name = "lm-steer-nucleus"
    order = 20
    in_paper = False
    lender: ClassVar[type[Method] | None] = Steered
    source = (
        "the same steer; its tokens are drawn from the base model's nucleus (ours, after DExperts)"
    )
    strengths = (4.0, 8.0, 12.0)
    generate_options = {"nucleus": "base"}  # noqa: RUF012 - never changed

    @classmethod
    def borrow(cls, lent: Steered, model: PreTrainedModel) -> Self:
        """The same steer."""
        return cls(lent.steer)


class SelfTrained(WithinNucleus):
    """LM-Steer that learned from the model's own writing too, within the base model's nucleus."""

    name = "lm-steer-self"
    order = 30
    lender = None  # its steer is another one
    source = (
        "lm-steer-nucleus, of a steer that also learned from texts of the model itself, labelled "
        "by n-grams of the same examples (ours)"
    )
    strengths = (2.0, 4.0, 6.0)

    @classmethod
    def learn(cls, *given: Any, **options: Any) -> Steer:
        """The training."""
        return self_train(*given, **options)


class InputSteered(Steered):
    """Input-Steer: the map on the input embeddings."""

    name = "input-steer"
    order = 40
    in_paper = False
    emphasised = False
    source = "the same map on the input embeddings, rank 32 (published nowhere)"
    strengths = (2.0, 3.0)
    site = "input"


def ready_steer(name: str, model: PreTrainedModel) -> Steered:
    """A steer that needs no fit, as a method under the name it was asked for by.

    Args:
        name: The steer's folder, its name among those shipped for the model, or its Hub id.
        model: The model that it is for.

    Raises:
        LmsteerError: No such steer, or it does not fit the model.
    """
    return Steered(load_steer(name, model), name)
