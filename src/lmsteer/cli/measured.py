"""What `sweep` and `grid` share: a span of strengths, and texts measured at each mix of them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..steer import Steer, StrengthWarning
from .display import progress_bars
from .strengths import tell_prompts

if TYPE_CHECKING:
    from ..generation import Generation
    from ..metrics import Estimate, Scorer


def span(low: float, high: float, steps: int, what: str) -> list[float]:
    """`steps` strengths from `low` to `high`, evenly, no two alike.

    Raises:
        InputError: Too few steps, ends in the wrong order or without end, or so near to each other
            that no different numbers lie between them.
    """
    if steps < 2 or not -math.inf < low < high < math.inf:
        raise InputError(
            f"{what} needs --from below --to and at least 2 --steps, was: {low}, {high}, {steps}"
        )
    # Exactly, as the numbers are written: 0.1 + 0.2 is 0.3.
    first, whole = Fraction(str(low)), Fraction(str(high)) - Fraction(str(low))
    found = [float(first + whole * i / (steps - 1)) for i in range(steps)]
    if len(set(found)) < steps:
        raise InputError(
            f"{what} of {steps} steps needs {steps} different strengths, and {low} and {high} lie "
            "too near to each other for that; give fewer --steps"
        )
    return found


def measured(
    network: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    mixes: Sequence[Mapping[Steer, float]],
    scorers: Mapping[str, Scorer],
    *,
    worst: bool,
    quiet: bool,
    tokens: int,
    **options: Any,
) -> list[tuple[list[Generation], dict[str, Estimate]]]:
    """The texts of each mix, all of `tokens` tokens, and their figures; `options` of `generate`.

    A prompt that is there twice is continued once: it has the same texts.
    """
    from ..generation import by_mix, generate
    from ..research.evaluation import check_scorers, measure

    check_scorers(scorers, worst=worst)

    tell_prompts(steer for mix in mixes for steer in mix)
    found = []
    with warnings.catch_warnings(), progress_bars(quiet=quiet) as progress:
        warnings.simplefilter("ignore", StrengthWarning)  # past the safe range is the purpose
        records = generate(
            network,
            tokenizer,
            list(dict.fromkeys(prompts)),
            strengths=mixes,
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            progress=progress,
            **options,
        )
        for number, part in enumerate(by_mix(records, len(mixes)), start=1):
            found.append((part, measure(network, tokenizer, part, scorers, worst=worst)))
            if progress:
                progress("measure", number, len(mixes))
    return found
