"""What each strength of a steer does to sampled text, as a classifier judges it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How often sampled text has the style at one strength.

    Args:
        strength: The signed strength.
        rate: The share of texts that the judge finds in the style, in [0, 1].
        rate_low: The lower end of its 95% interval.
        rate_high: The upper end of its 95% interval.
        score: The mean score that the judge gives, if it was kept.
        perplexity: The perplexity of the texts under the unsteered model, if it was measured.
    """

    strength: float
    rate: float
    rate_low: float
    rate_high: float
    score: float | None = None
    perplexity: float | None = None


@dataclass(frozen=True, kw_only=True)
class Effect:
    """The measured effect of a steer: how often text has the style at each strength.

    Args:
        style: What the share counts, in a word, such as "positive".
        judge: Who judged the texts, in words.
        prompts: The name of the prompts that the texts continue.
        texts: The number of texts per strength.
        spearman: The rank correlation of strength and mean score, in [-1, 1].
        rows: What was measured at each strength.
    """

    style: str
    judge: str
    prompts: str
    texts: int
    spearman: float
    rows: tuple[Rate, ...]
