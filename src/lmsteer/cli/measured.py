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
from .steers import parse, tell_prompts

if TYPE_CHECKING:
    from ..generation import Generation
    from ..metrics import Estimate, Scorer


def strengths_alone(
    specs: Sequence[str],
    what: str,
    *,
    low: float | None,
    high: float | None,
    points: int | None,
    usual: tuple[float, float, int],
) -> list[float]:
    """The strengths of a steer that is given by its name alone.

    Args:
        specs: ``NAME`` or ``NAME=STRENGTHS``, all that are given.
        what: What is made of them, for messages.
        low: ``--from``, if it is given.
        high: ``--to``, if it is given.
        points: ``--points``, if it is given.
        usual: The three where they are not given.

    Raises:
        InputError: An option is given, and every steer has strengths of its own; see also `span`.
    """
    asked = (low, high, points)
    if all(parse(spec)[1] for spec in specs) and any(value is not None for value in asked):
        raise InputError(
            "--from, --to and --points choose the strengths of a steer that is given by its name "
            f"alone; were given with: {' '.join(specs)}"
        )
    low, high = (usual[i] if (v := asked[i]) is None else v for i in (0, 1))
    return span(low, high, usual[2] if points is None else points, what)


def span(low: float, high: float, steps: int, what: str) -> list[float]:
    """`steps` strengths from `low` to `high`, evenly, no two alike.

    Raises:
        InputError: Too few steps, ends in the wrong order or without end, or so near to each other
            that no different numbers lie between them.
    """
    if steps < 2 or not -math.inf < low < high < math.inf:
        raise InputError(
            f"{what} needs --from below --to and at least 2 --points, was: {low}, {high}, {steps}"
        )
    # Exactly, as the numbers are written: 0.1 + 0.2 is 0.3.
    first, whole = Fraction(str(low)), Fraction(str(high)) - Fraction(str(low))
    found = [float(first + whole * i / (steps - 1)) for i in range(steps)]
    if len(set(found)) < steps:
        raise InputError(
            f"{what} of {steps} points needs {steps} different strengths, and {low} and {high} lie "
            "too near to each other for that; give fewer --points"
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
