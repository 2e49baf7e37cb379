"""Two independent styles compose as a product of maps; what their sum loses.

``(I + e1 W1)(I + e2 W2)`` weighs each pair of styles by the product of its two ratios, which is the
joint change. The sum ``I + e1 W1 + e2 W2`` (Han et al. 2024, "compositional"; what attaching two
steers does) lacks ``e1 e2 W1 W2``, and where both changes make a pair rarer it can weigh it below
zero.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from ...errors import InputError
from ...states import Progress
from .checks import Check, Part, TableRow, column, counted
from .contexts import Contexts
from .exact import SEEDS, largest_error, style_map
from .families import TwoShifts, random_two_shifts
from .hmm import Array
from .linear import linear_kl, log_probability

LONGEST = 6
STRENGTHS = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
_ROUNDING = 1e-12
_SMALL = (0.01, 0.02)  # strengths at which the loss follows its leading power
GRID, BY_SEED = "KL of the sum from the truth, nats per word", "both at strength 1, by seed"


def maps_of(shift: TwoShifts) -> tuple[Array, Array]:
    """The exact W of each change alone.

    Raises:
        InputError: The two styles are not independent under pi: then switching one moves the
            other, and no order of the two maps gives both targets.
    """
    joint = np.outer(shift.first, shift.second)
    off = float(np.abs(shift.base.styles.reshape(joint.shape) - joint).max())
    if off > _ROUNDING:
        raise InputError(
            "styles compose where they are independent, pi = first (x) second; here the joint "
            f"chances differ from the product by up to {off:g}"
        )
    one, other = shift.targets
    return (
        style_map(shift.base, np.outer(one, shift.second).ravel()),
        style_map(shift.base, np.outer(shift.first, other).ravel()),
    )


def product(W1: Array, W2: Array, first: float, second: float) -> Array:
    """The W of ``(I + first * W1)(I + second * W2)``."""
    return np.asarray(first * W1 + second * W2 + first * second * W1 @ W2)


def check_composition(
    seed: int = 0,
    *,
    seeds: int = SEEDS,
    longest: int = LONGEST,
    progress: Progress | None = None,
) -> Part:
    """The product against the sum, over random languages and strengths.

    Args:
        seed: The seed of the first language; the next languages have the
            next seeds. The grid is drawn from the first language.
        seeds: The number of languages.
        longest: The length of the longest texts, in words.
        progress: Called as ``progress("composition", done, total)``.
    """
    numbers = range(seed, seed + seeds)
    shifts = {number: random_two_shifts(number) for number in numbers}
    rows = [
        _row(number, shifts[number], longest)
        for number in counted(numbers, "composition", progress)
    ]
    grid = _grid(shifts[seed], longest)
    slopes = [_slope(shift, longest) for shift in shifts.values()]
    refused = sum(_refuses_dependent(shift) for shift in shifts.values())
    checks = [
        Check(
            "product, largest |Δ log-prob| (nats)", column(rows, "product").max(), "<", _ROUNDING
        ),
        Check("power of ε in the sum's loss, smallest", min(slopes), ">", 3.9),
        Check("power of ε in the sum's loss, largest", max(slopes), "<", 4.1),
        Check("styles that are not independent refused, of all", refused, ">", seeds),
    ]
    return Part(
        "composition",
        "Two independent styles compose as (I + ε₁W₁)(I + ε₂W₂). The sum I + ε₁W₁ + ε₂W₂ lacks "
        "ε₁ε₂W₁W₂, so its KL from the truth grows as (ε₁ε₂)².",
        checks,
        rows,
        {BY_SEED: rows, GRID: grid},
    )


def _row(seed: int, shift: TwoShifts, longest: int) -> TableRow:
    base, truth = shift.base, shift.steered(1, 1)
    W1, W2 = maps_of(shift)
    both = product(W1, W2, 1, 1)
    contexts = Contexts.of(base.vocab, longest)
    error = largest_error(
        lambda texts: log_probability(base, texts, both),
        truth.log_probability,
        base.vocab,
        longest,
    )
    return {
        "seed": seed,
        "product": error,
        "kl_unsteered": linear_kl(base, truth, np.zeros_like(W1), contexts),
        "kl_sum": linear_kl(base, truth, W1 + W2, contexts),
        "least_weight_of_a_pair": float(1 + np.diag(W1 + W2).min()),
    }


def _grid(shift: TwoShifts, longest: int) -> list[TableRow]:
    contexts = Contexts.of(shift.base.vocab, longest)
    return [
        {"first": one, "second": two, "kl_sum": _lost(shift, one, two, contexts)}
        for one in STRENGTHS
        for two in STRENGTHS
    ]


def _lost(shift: TwoShifts, one: float, two: float, contexts: Contexts) -> float | None:
    W1, W2 = maps_of(shift)
    return linear_kl(shift.base, shift.steered(one, two), one * W1 + two * W2, contexts)


def _slope(shift: TwoShifts, longest: int) -> float:
    """The power of the strength, the same for both, with which the sum's loss begins."""
    contexts = Contexts.of(shift.base.vocab, longest)
    lost = [_lost(shift, strength, strength, contexts) for strength in _SMALL]
    if None in lost:
        return float("nan")
    return float(np.polyfit(np.log(_SMALL), np.log(np.array(lost, dtype=float)), 1)[0])


def _refuses_dependent(shift: TwoShifts) -> bool:
    """Whether styles that go together, half of the time as one, are refused."""
    together = np.zeros((len(shift.first), len(shift.second)))
    np.fill_diagonal(together, shift.first)
    styles: Float64[Array, " styles"] = (shift.base.styles + together.ravel()) / 2
    dependent = TwoShifts(shift.base.with_styles(styles), shift.first, shift.second, shift.targets)
    try:
        maps_of(dependent)
    except InputError:
        return True
    return False
