"""Best of n: many continuations, of which a classifier chooses one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...errors import UnsupportedError
from ...generation import Generation, generate
from ...metrics import Scorer, scorer_of
from ...states import Progress
from ...text import Example
from .method import Method

if TYPE_CHECKING:
    from typing import Self

    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class BestOf(Method):
    """The base model writes n texts for each that is asked for; a classifier chooses one.

    The strength's magnitude, rounded, is n; its sign is the side that is chosen. It costs n times
    the tokens. The first of the n is what the base model would have written, so that n = 1 is the
    base model.

    Args:
        classify: A function from texts to scores, above 0 where a text is of the positive side.
            It must not be the scorer that judges the results.
        parameters: The number of parameters of the classifier.
    """

    name = "best-of"
    order = 140
    clock_prompts = 8
    source = "rejection sampling by a classifier of the same examples (ours, n-grams)"
    readable = False
    strengths = (2.0, 4.0, 8.0)

    def __init__(self, classify: Scorer, parameters: int) -> None:
        self.classify, self.parameters = classify, parameters
        self._written: tuple[Any, list[Generation]] | None = None

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
        """Train the classifier of `metrics.scorer_of`; the model is not used.

        Raises:
            InputError: All examples are of one side.
        """
        scorer = scorer_of(examples)
        return cls(scorer, int((scorer.weights != 0).sum()) + 1)

    @contextlib.contextmanager
    def attach(self, model: PreTrainedModel, strength: float) -> Iterator[PreTrainedModel]:
        """The base model, where n is 1.

        Raises:
            UnsupportedError: A larger n: it acts on whole texts, not on the model.
        """
        if candidates(strength) > 1:
            raise UnsupportedError(
                "best-of chooses among whole texts and cannot be attached to a model; call its "
                "generate()"
            )
        yield model

    def generate(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[str],
        strength: float,
        **options: Any,
    ) -> list[Generation]:
        """The chosen texts; `options` are those of `lmsteer.generate`.

        What was written last is remembered: a smaller n of the same call, and the other sign, are
        chosen from it.
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        n, samples = candidates(strength), options.pop("samples", 1)
        asked = (model, prompts, {k: v for k, v in options.items() if k != "progress"})
        if self._written is None or self._written[0] != asked:
            self._written = None
        known = 0 if self._written is None else len(self._written[1]) // len(prompts)
        if known < n * samples:
            written = generate(model, tokenizer, prompts, samples=n * samples, **options)
            self._written = (asked, written)
            known = n * samples
        assert self._written is not None
        # Records of a prompt are in the order of their samples, and do not depend on how many.
        records = [r for r in self._written[1] if r.sample < n * samples]
        if n == 1:
            return self.named(records, strength)
        sign = 1.0 if strength > 0 else -1.0
        scores = sign * self.classify([record.text for record in records])
        kept = []
        for start in range(0, len(records), n * samples):
            for sample in range(samples):
                # Candidates of a sample are so far apart that the first is the base model's.
                places = range(start + sample, start + n * samples, samples)
                best = max(places, key=lambda place: float(scores[place]))
                kept.append(replace(records[best], sample=sample))
        return self.named(kept, strength)


def candidates(strength: float) -> int:
    """The number of texts that are written for one that is chosen."""
    return max(1, round(abs(strength)))
