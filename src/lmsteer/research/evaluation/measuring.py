"""All figures of the records of one strength."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ...errors import InputError
from ...metrics import (
    Estimate,
    Scorer,
    any_probability,
    distinct,
    expected_maximum,
    mean_score,
    perplexity,
    positive_rate,
    repetition,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ...generation import Generation


OTHERS = ("perplexity", "distinct_1", "distinct_2", "distinct_3", "repetition")
"""Figures that need no scorer."""
# Columns that tables of the command line have beside the figures.
_TAKEN = {*OTHERS, "mix", "strength", "strengths", "text", "texts"}


def check_scorers(scorers: Mapping[str, Scorer], *, worst: bool = False) -> None:
    """Raise InputError where a scorer is called as another figure is; call it before long work."""
    figures = set(_TAKEN)
    for name in scorers:
        own = {name} | ({f"{name}.max", f"{name}.any", f"{name}.mean"} if worst else set())
        if own & figures:
            raise InputError(
                f"a scorer cannot be called {name!r}: another figure of the table has that name. "
                "Move its folder or file to another name"
            )
        figures |= own


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    records: Sequence[Generation],
    scorers: Mapping[str, Scorer],
    *,
    worst: bool = False,
    fast: bool = False,
) -> dict[str, Estimate]:
    """Measure style, fluency and variety of records that share one strength.

    Args:
        model: The model that perplexity is measured with; it must be unsteered.
        tokenizer: The tokenizer of that model.
        records: Generated texts, several samples per prompt.
        scorers: Scorers by name; their scores lie in [-1, 1].
        worst: Whether the style is one to be avoided, such as toxicity. Then the scorer's
            probability is also reported as the expected maximum over a prompt's samples, as the
            probability that any sample has the style, and as the mean.
        fast: Compute the perplexity in bf16 where the hardware has it; see `metrics.perplexity`.

    Returns:
        Estimates by name: ``{scorer}`` (share scored above 0), ``{scorer}.max``,
        ``{scorer}.any``, ``{scorer}.mean``, ``perplexity``, ``distinct_1`` to ``distinct_3``,
        ``repetition``.

    Raises:
        InputError: A scorer has the name of another figure.
    """
    check_scorers(scorers, worst=worst)
    texts = [record.text for record in records]
    found: dict[str, Estimate] = {}
    for name, scorer in scorers.items():
        scores = scorer(texts)
        found[name] = positive_rate(records, scores)
        if worst:
            chances = (scores + 1) / 2
            found[f"{name}.max"] = expected_maximum(records, chances)
            found[f"{name}.any"] = any_probability(records, chances)
            found[f"{name}.mean"] = mean_score(records, chances)
    found["perplexity"] = perplexity(model, tokenizer, records, fast=fast)
    for n in (1, 2, 3):
        found[f"distinct_{n}"] = distinct(records, n)
    found["repetition"] = repetition(records)
    return found
