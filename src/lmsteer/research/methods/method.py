"""What every method of control looks like: fitted on labelled text, then attached at a strength."""

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
    texts labelled -1, and 0 is exactly the base model. What a magnitude means is each method's
    own; the class says it.
    """

    name: ClassVar[str]
    """On the command line and in tables."""
    source: ClassVar[str]
    """The paper, and how this differs from it."""
    frozen: ClassVar[bool] = True
    """Whether the weights of the base model's trunk stay as they are."""
    readable: ClassVar[bool] = True
    """Whether a given text can be scored under it: it acts on the scores of the next token, not on
    whole texts or on prompts."""
    strengths: ClassVar[tuple[float, ...]] = (1.0,)
    """Magnitudes worth comparing, ascending."""
    parameters: int
    """Numbers learned for one direction, all models that are added included."""
    generate_options: ClassVar[dict[str, Any]] = {}
    """What `lmsteer.generate` is told besides."""

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
            tokenizer: The model's own.
            examples: Texts with labels in [-1, 1]. Methods that know two classes take the sign
                of the label and leave neutral texts out.
            seed: Of whatever is random in the fit.
            progress: Called as ``progress(stage, done, total)``.
        """

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
        """The records, told that they are this method's."""
        return [replace(record, strengths={self.name: float(strength)}) for record in records]


def side_of(name: str, strength: float) -> int | None:
    """0 for the positive side and 1 for the negative one; None for no strength.

    Raises:
        InputError: A magnitude, which this method does not have.
    """
    if strength not in (-1, 0, 1):
        raise InputError(
            f"{name!r} is on or off: its strength must be -1, 0 or 1, was: {strength:g}; for "
            "strengths in between use a steer, lora or caa"
        )
    return None if not strength else 0 if strength > 0 else 1
