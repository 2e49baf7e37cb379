"""`Method`: what every method of control has. It is fitted on labelled text, then attached."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from ...errors import InputError
from ...generation import Generation, generate
from ...states import Progress
from ...text import Example

if TYPE_CHECKING:
    from typing import Self

    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Method(ABC):
    """A way to control what a model writes, learned from the examples a steer learns from.

    Strengths are signed as a steer's are: above 0 towards texts labelled +1, below 0 towards
    texts labelled -1, and 0 is exactly the base model. What a magnitude means differs between
    methods; each class says it.

    A method is one file in this folder with a subclass that states its `name`: `load_methods`
    finds it. The class attributes below are all that a comparison knows about it.
    """

    name: ClassVar[str]
    """Its name on the command line and in tables; a class without one is shared by methods."""
    source: ClassVar[str]
    """The paper, and how this implementation differs from it."""
    order: ClassVar[int] = 1000
    """The method's place in tables and in "all": the smallest number comes first.
    Methods that do not say are the last ones, by their names."""
    in_paper: ClassVar[bool] = False
    """Whether "paper" includes it: the LM-Steer paper compares with it."""
    extra: ClassVar[str | None] = None
    """The optional package that it needs; the extra that installs it has the same name."""
    fit_options: ClassVar[tuple[str, ...]] = ()
    """The names of further arguments of `fit` that a comparison may set (`Settings.options`)."""
    frozen: ClassVar[bool] = True
    """Whether the weights of the base model's trunk stay as they are."""
    readable: ClassVar[bool] = True
    """Whether a given text can be scored under it: it acts on the scores of the next token, not on
    whole texts or on prompts."""
    strengths: ClassVar[tuple[float, ...]] = (1.0,)
    """Magnitudes worth comparing, ascending."""
    slow: ClassVar[bool] = False
    """Whether a comparison lets it continue only a few prompts (`Settings.slow_count`)."""
    clock_prompts: ClassVar[int] = 64
    """The most prompts that its writing is timed on."""
    emphasised: ClassVar[bool] = False
    """Whether its curve in a figure is a thick one."""
    lender: ClassVar[type[Method] | None] = None
    """The method that has learned the same if it was fitted before; see `borrow`."""
    generate_options: ClassVar[dict[str, Any]] = {}
    """Further options for `lmsteer.generate`, such as ``{"nucleus": "base"}``."""
    parameters: int
    """Numbers learned for one direction, those of all added models included."""
    digest: str = ""
    """A short digest of what was learned, where the method is ready and needs no fit."""

    @classmethod
    @abstractmethod
    def fit(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        examples: Sequence[Example],
        *,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Self:
        """Learn from labelled text. The model is left as it came.

        Args:
            model: The base model.
            tokenizer: The model's own tokenizer.
            examples: Texts with labels in [-1, 1]. Methods that know two classes take the sign
                of the label and leave neutral texts out.
            seed: The seed of whatever is random in the fit.
            progress: Called as ``progress(stage, done, total)``.
        """

    @classmethod
    def borrow(cls, lent: Any, model: PreTrainedModel) -> Self:
        """Make the method from what `lender` has learned, instead of learning it again.

        Args:
            lent: The fitted method, of the class `lender`.
            model: The base model.
        """
        raise NotImplementedError

    @abstractmethod
    def attach(
        self, model: PreTrainedModel, strength: float
    ) -> AbstractContextManager[PreTrainedModel]:
        """Within the block, the model that is given back writes at this strength.

        It may be the same model, changed until the block ends, or one that wraps it.
        """

    def generate(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[str],
        strength: float,
        **options: Any,
    ) -> list[Generation]:
        """Continue prompts at this strength; `options` are those of `lmsteer.generate`.

        All methods and strengths share the random numbers of a prompt's samples.
        """
        with self.attach(model, strength) as steered:
            records = generate(steered, tokenizer, prompts, **self.generate_options, **options)
        return self.named(records, strength)

    def named(self, records: Sequence[Generation], strength: float) -> list[Generation]:
        """The records, with this method and strength named in them."""
        return [replace(record, strengths={self.name: float(strength)}) for record in records]


def side_of(name: str, strength: float) -> int | None:
    """0 for the positive side and 1 for the negative one; None for no strength.

    Raises:
        InputError: The strength is not -1, 0 or 1, and this method has no others.
    """
    if strength not in (-1, 0, 1):
        raise InputError(
            f"{name!r} is on or off: its strength must be -1, 0 or 1, was: {strength:g}; for "
            "strengths in between use a steer, lora or caa"
        )
    return None if not strength else 0 if strength > 0 else 1
