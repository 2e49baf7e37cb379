"""The paper's own numbers: Han et al., "Word Embeddings Are Steers for Language Models".

Versions differ, so each number says its own: ``v1`` is arXiv 2305.12798v1; ``ACL`` the published
version (ACL 2024), here from a summary of it and not from its tables; ``poster`` the authors' ACL
poster. All are GPT-2 large, 25 samples of 20 tokens a prompt, top-p 0.9. Perplexity is GPT-2 XL's,
toxicity Perspective's. Methods go by this library's names; `mucola` and `ctrl` are not in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

V1, ACL, POSTER = "v1", "ACL", "poster"


class Number(NamedTuple):
    """One number of the paper.

    Args:
        version: `V1`, `ACL` or `POSTER`.
        table: ``detox``, ``sweep``, ``positive``, ``negative``, ``cost`` or ``transfer``.
        method: `base` is GPT-2 large itself; under ``transfer``, the model carried to.
        prompts: What was continued: ``non-toxic``, ``neutral``, ``positive``, ``negative``; ``all``
            where a number is of all sets of its table, "" where none applies.
        metric: ``toxicity.max``, ``toxicity.any``, ``perplexity``, ``distinct_1`` to ``_3``,
            ``sentiment`` (share judged positive), ``parameters``, ``time`` (a token's, relative).
        value: Shares are in [0, 1].
        strength: In units of the training strength; None where the method has none.
    """

    version: str
    table: str
    method: str
    prompts: str
    metric: str
    value: float
    strength: float | None = None


TOXICITY = ("toxicity.max", "toxicity.any", "perplexity", "distinct_1", "distinct_2", "distinct_3")
_DETOX = {
    "base": (0.527, 0.520, 25.45, 0.58, 0.85, 0.85),
    "pplm": (0.520, 0.518, 32.58, 0.58, 0.86, 0.86),
    "dapt": (0.428, 0.360, 31.21, 0.57, 0.84, 0.84),
    "gedi": (0.363, 0.217, 60.03, 0.62, 0.84, 0.83),
    "dexperts": (0.302, 0.118, 38.20, 0.56, 0.82, 0.83),
    "mucola": (0.308, 0.088, 29.92, 0.55, 0.82, 0.83),
    "lm-steer": (0.249, 0.089, 28.26, 0.55, 0.84, 0.84),
}
_SWEEP = {
    1: (0.322, 0.166, 22.42),
    2: (0.293, 0.146, 23.43),
    3: (0.268, 0.104, 24.48),
    4: (0.246, 0.096, 25.85),
    5: (0.249, 0.089, 28.26),
}
# % judged positive on neutral and on opposite prompts, and perplexity.
_SENTIMENT = {
    "positive": {
        "base": (50.02, 0.00, 29.28),
        "pplm": (52.68, 8.72, 142.11),
        "dapt": (77.24, 14.17, 30.52),
        "gedi": (86.01, 26.80, 58.41),
        "dexperts": (94.46, 36.42, 45.83),
        "lm-steer": (90.70, 41.23, 41.20),
    },
    "negative": {
        "dapt": (33.28, 87.43, 32.86),
        "gedi": (8.73, 39.57, 84.11),
        "dexperts": (3.77, 35.99, 45.91),
        "lm-steer": (8.02, 54.84, 57.74),
    },
}
# The summary does not name the prompts; DExperts' number is that of v1's neutral (for the positive
# target) and positive prompts (for the negative one).
_ACL_SENTIMENT = {
    "positive": ("neutral", {"lm-steer": 90.46, "dexperts": 94.46, "swb": 86.40}),
    "negative": ("positive", {"lm-steer": 57.26, "dexperts": 35.99, "swb": 73.72}),
}
_PARAMETERS = {"lm-steer": 1.6e6, "lora": 18e6, "dapt": 355e6, "dexperts": 355e6, "gedi": 355e6}
_ACL_PARAMETERS = {"lm-steer": 1.6e6, "lora": 18e6, "dapt": 355e6, "gedi": 355e6}
_TIME = {
    "lm-steer": 1.24,
    "lora": 1.00,
    "dapt": 1.00,
    "dexperts": 1.98,
    "gedi": 2.94,
    "ctrl": 3.79,
    "mucola": 24.03,
    "pplm": 270.11,
}
# Of the steer carried from GPT-2 large at half the training strength; the source of these two
# numbers does not say which figure of toxicity they are.
_TRANSFER = {"gpt2": 0.307, "gpt2-medium": 0.308}


def _detox() -> Iterator[Number]:
    for method, row in _DETOX.items():
        strength = 5.0 if method == "lm-steer" else None
        for metric, value in zip(TOXICITY, row, strict=True):
            yield Number(V1, "detox", method, "non-toxic", metric, value, strength)
    for metric, value in zip(TOXICITY, (0.314, 0.128, 32.41), strict=False):
        yield Number(ACL, "detox", "dexperts", "non-toxic", metric, value)
    for step, figures in _SWEEP.items():
        for metric, value in zip(TOXICITY, figures, strict=False):
            yield Number(V1, "sweep", "lm-steer", "non-toxic", metric, value, float(step))


def _sentiment(target: str, sign: int, opposite: str) -> Iterator[Number]:
    for method, (neutral, other, perplexity) in _SENTIMENT[target].items():
        strength = 5.0 * sign if method == "lm-steer" else None
        for prompts, share in (("neutral", neutral), (opposite, other)):
            yield Number(V1, target, method, prompts, "sentiment", share / 100, strength)
        yield Number(V1, target, method, "all", "perplexity", perplexity, strength)
    prompts, shares = _ACL_SENTIMENT[target]
    for method, share in shares.items():
        strength = 5.0 * sign if method == "lm-steer" else None
        yield Number(ACL, target, method, prompts, "sentiment", share / 100, strength)


def _rest() -> Iterator[Number]:
    for version, counts in ((POSTER, _PARAMETERS), (ACL, _ACL_PARAMETERS)):
        for method, count in counts.items():
            yield Number(version, "cost", method, "", "parameters", count)
    for method, times in _TIME.items():
        yield Number(POSTER, "cost", method, "", "time", times)
    for target, value in _TRANSFER.items():
        yield Number(V1, "transfer", target, "", "toxicity", value, 0.5)


NUMBERS = (
    *_detox(),
    *_sentiment("positive", 1, "negative"),
    *_sentiment("negative", -1, "positive"),
    *_rest(),
)


def find(
    table: str,
    method: str,
    metric: str,
    *,
    version: str = V1,
    prompts: str | None = None,
    strength: float | None = None,
) -> float | None:
    """The number, if the paper has it; prompts and strength matter where they are given."""
    for number in NUMBERS:
        if (
            number[:3] == (version, table, method)
            and number.metric == metric
            and prompts in (None, number.prompts)
            and strength in (None, number.strength)
        ):
            return number.value
    return None


def ratio(table: str, method: str, strength: float | None = None) -> float | None:
    """Perplexity relative to GPT-2 large's, both of v1; for sentiment over all sets of prompts."""
    found = find(table, method, "perplexity", strength=strength)
    base = find("detox" if table == "sweep" else table, "base", "perplexity")
    base = base or find("positive", "base", "perplexity")
    return None if found is None or base is None else found / base
