"""How a comparison writes text, and what it judges the text by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import InputError
from ..methods import Method


@dataclass(frozen=True)
class Settings:
    """How text is written and what it is judged by.

    Args:
        samples: The number of continuations per prompt.
        tokens: The length of each continuation, in tokens.
        top_p: The probability mass of the nucleus that tokens are sampled from.
        seed: The seed of the sampling and of the fits.
        batch_size: The number of rows that are computed at once.
        slow_count: The number of prompts for methods that call themselves slow.
        neutral: Texts of no style; their perplexity says how much a method harms the model.
        sentences: Acceptable sentences and others, with their verdicts, for the AUC.
        options: Further arguments of `fit`, by name. A method gets those that it lists in
            `Method.fit_options`; for example ``{"instructions": (text for 1, text for -1)}``.
    """

    samples: int = 25
    tokens: int = 20
    top_p: float = 0.9
    seed: int = 0
    batch_size: int = 128
    slow_count: int = 10
    neutral: Sequence[str] = ()
    sentences: tuple[Sequence[str], Sequence[bool]] = ((), ())
    options: Mapping[str, Any] = field(default_factory=dict)

    def sampling(self) -> dict[str, Any]:
        """The options of `generate`."""
        return {
            "samples": self.samples,
            "max_new_tokens": self.tokens,
            "top_p": self.top_p,
            "seed": self.seed,
            "batch_size": self.batch_size,
        }

    def check(self, methods: Sequence[type[Method] | Method]) -> None:
        """Refuse an option that would be ignored.

        Raises:
            InputError: None of the methods takes it.
        """
        known = {name for method in methods for name in method.fit_options}
        ignored = sorted(set(self.options) - known)
        if ignored:
            raise InputError(
                f"none of these methods takes {', '.join(ignored)}: "
                f"{', '.join(method.name for method in methods)}; leave it out, or compare a "
                "method that takes it"
            )
