"""Where the equivalence is exact: one W turns pi into pi', and each assumption is needed.

Han et al. 2024, the theorem on hidden Markov models. With transitions that never leave a style, the
belief before it is normalised is linear in pi, style by style. So weighing each style's part by
pi' / pi, ``W = diag(pi' / pi) (x) I - I``, turns the prediction under pi into the one under pi', in
every context by the same W; and ``I + strength W`` into that of ``pi + strength (pi' - pi)``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64, Int64

from ...errors import InputError
from ...states import Progress
from .checks import Check, Part, TableRow, column, counted
from .families import StyleShift, random_shift
from .hmm import Array, Hmm, all_texts, check_distributions
from .linear import log_probability

SEEDS = 10
LONGEST = 6
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
MIXING = 0.2
SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, MIXING, 0.4)
ERRORS = "largest |Δ log-prob| over all texts, nats"
MIXED = "the same against the share of texts that change style at a step"
_ROUNDING = 1e-12  # of a float64 sum of logarithms
_MISS = 0.1

LogProbability = Callable[..., Float64[Array, " texts"]]
"""Of texts, ``(texts, length)``, in nats."""


def check_assumptions(language: Hmm, target: Float64[Array, " styles"]) -> None:
    """What an exact W needs.

    Raises:
        InputError: Another number of styles, `target` is no distribution, styles that mix, or a
            style that is never met under pi but is under pi'.
    """
    if target.shape != language.styles.shape:
        raise InputError(
            f"the language has {len(language.styles)} styles, the target: {target.shape}"
        )
    check_distributions("the target's styles", target)
    if language.leak > _ROUNDING:
        raise InputError(
            "an exact steer needs styles that never mix (block-diagonal transitions); here a step "
            f"leaves its style with a chance of up to {language.leak:g}"
        )
    unmet = np.flatnonzero((language.styles == 0) & (target > 0))
    if len(unmet):
        raise InputError(
            f"style {unmet[0]} has chance 0 under pi and {target[unmet[0]]:g} under pi': no belief "
            "holds it, so no linear map brings it back; give it a chance above 0 under pi"
        )


def style_map(language: Hmm, target: Float64[Array, " styles"]) -> Float64[Array, "states states"]:
    """The exact W for a change of style: ``diag(pi' / pi) (x) I - I``.

    Args:
        language: The language under pi.
        target: ``(styles,)``, pi'.

    Raises:
        InputError: An assumption does not hold; see `check_assumptions`.
    """
    check_assumptions(language, target)
    met = language.styles > 0
    ratio = np.divide(target, language.styles, out=np.ones_like(target), where=met)
    inner = language.inner.shape[1]
    return np.diag(np.repeat(ratio, inner)) - np.eye(len(ratio) * inner)


def largest_error(
    one: LogProbability,
    other: LogProbability,
    vocab: int,
    longest: int = LONGEST,
) -> float:
    """Largest difference of two log-probabilities, in nats, over all texts up to `longest`."""
    return max(
        float(np.abs(one(texts) - other(texts)).max())
        for texts in (all_texts(vocab, length) for length in range(1, longest + 1))
    )


def check_exact(
    seed: int = 0,
    *,
    seeds: int = SEEDS,
    longest: int = LONGEST,
    progress: Progress | None = None,
) -> Part:
    """The exact case over random languages, and a control for each assumption.

    Args:
        seed: The seed of the first language; the next languages have the next seeds.
        seeds: The number of languages.
        longest: The length, in words, up to which all texts are compared.
        progress: Called as ``progress("exact", done, total)``.
    """
    numbers = range(seed, seed + seeds)
    rows = [
        _row(number, random_shift(number), longest)
        for number in counted(numbers, "exact", progress)
    ]
    refused = [_refusals(random_shift(number)) for number in numbers]

    checks = [
        Check(
            "steered, largest |Δ log-prob| (nats)", column(rows, "steered").max(), "<", _ROUNDING
        ),
        Check(
            "at strengths 0 to 1, largest |Δ log-prob| (nats)",
            column(rows, "interpolated").max(),
            "<",
            _ROUNDING,
        ),
        Check("unsteered, smallest miss (nats)", column(rows, "unsteered").min(), ">", _MISS),
        Check(
            f"{MIXING:.0%} mixing, smallest miss (nats)", column(rows, "mixing").min(), ">", _MISS
        ),
        Check(
            "beliefs under π′ too, smallest miss (nats)", column(rows, "twice").min(), ">", _MISS
        ),
        Check(
            "W at the first word only, smallest miss (nats)", column(rows, "once").min(), ">", _MISS
        ),
        Check(
            "softmax in place of the linear head, miss (nats)",
            column(rows, "softmax").min(),
            ">",
            _MISS,
        ),
        Check("mixing styles refused, of all", sum(mixing for mixing, _ in refused), ">", seeds),
        Check("π = 0 where π′ > 0 refused, of all", sum(unmet for _, unmet in refused), ">", seeds),
    ]
    return Part(
        "exact",
        "Where styles never mix and the head is linear, W = diag(π′/π) ⊗ I − I is the change of "
        "style π → π′ for every text, and I + εW is π + ε(π′ − π).",
        checks,
        rows,
        {
            ERRORS: rows,
            MIXED: [
                _mixing_row(share, [random_shift(number) for number in numbers], longest)
                for share in SHARES
            ],
        },
    )


def _row(seed: int, shift: StyleShift, longest: int) -> TableRow:
    base, truth = shift.base, shift.steered
    W = style_map(base, shift.target)

    def error(chances: LogProbability, true: Hmm = truth) -> float:
        return largest_error(chances, true.log_probability, base.vocab, longest)

    return {
        "seed": seed,
        "steered": error(lambda texts: log_probability(base, texts, W)),
        "interpolated": max(
            error(
                lambda texts, at=strength: log_probability(base, texts, W, at),
                base.with_styles(shift.styles_at(strength)),
            )
            for strength in STRENGTHS
        ),
        "unsteered": error(base.log_probability),
        "mixing": _mixing_error(shift, W, MIXING, longest),
        "twice": error(lambda texts: log_probability(truth, texts, W)),
        "once": error(lambda texts: _once(base, texts, W)),
        "softmax": error(lambda texts: _softmax(base, texts, W)),
    }


def _mixing_row(share: float, shifts: list[StyleShift], longest: int) -> TableRow:
    errors = [
        _mixing_error(shift, style_map(shift.base, shift.target), share, longest)
        for shift in shifts
    ]
    middle = float(np.median(errors))
    return {"share": share, "least": min(errors), "median": middle, "most": max(errors)}


def _mixing_error(shift: StyleShift, W: Array, share: float, longest: int) -> float:
    """What the W of the language without mixing misses in the one with it."""
    mixed = shift.base.mixed(share)
    return largest_error(
        lambda texts: log_probability(mixed, texts, W),
        mixed.with_styles(shift.target).log_probability,
        mixed.vocab,
        longest,
    )


def _once(language: Hmm, texts: Int64[Array, "texts length"], W: Array) -> Array:
    """Steered at the first word only."""
    first = texts[:, :1]
    nothing = np.zeros_like(W)
    rest = log_probability(language, texts, nothing) - log_probability(language, first, nothing)
    return np.asarray(log_probability(language, first, W) + rest)


def _softmax(language: Hmm, texts: Int64[Array, "texts length"], W: Array) -> Array:
    """The same scores, through a softmax."""
    total = np.zeros(len(texts))
    for place, words in enumerate(texts.T):
        beliefs = language.beliefs(texts[:, :place])
        scores = np.exp((beliefs + beliefs @ W) @ language.emissions)
        total += np.log(scores[np.arange(len(texts)), words] / scores.sum(1))
    return total


def _refusals(shift: StyleShift) -> tuple[bool, bool]:
    """Whether a mixing language is refused, and one that never meets a style it is to reach."""
    never = np.zeros_like(shift.target)
    never[0] = 1.0
    told = []
    for language in (shift.base.mixed(MIXING), shift.base.with_styles(never)):
        try:
            style_map(language, shift.target)
        except InputError:
            told.append(True)
        else:
            told.append(False)
    return told[0], told[1]
