"""What `sweep` and `grid` share: a span of strengths, and texts measured at each mix of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..steer import Steer
from ..strengths import StrengthWarning
from .display import progress_bars
from .strengths import tell_prompts

if TYPE_CHECKING:
    from ..generation import Generation
    from ..metrics import Estimate, Scorer


def span(low: float, high: float, steps: int, what: str) -> list[float]:
    """`steps` strengths from `low` to `high`, evenly."""
    if steps < 2 or not low < high:
        raise InputError(
            f"{what} needs --from below --to and at least 2 --steps, was: {low}, {high}, {steps}"
        )
    return [round(low + (high - low) * i / (steps - 1), 6) for i in range(steps)]


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
    """The texts of each mix, all of `tokens` tokens, and their figures; `options` of `generate`."""
    from ..evaluation.measure import measure
    from ..generation import generate

    tell_prompts(steer for mix in mixes for steer in mix)
    found = []
    with warnings.catch_warnings(), progress_bars(quiet=quiet) as progress:
        warnings.simplefilter("ignore", StrengthWarning)  # past the safe range is the purpose
        records = generate(
            network,
            tokenizer,
            prompts,
            strengths=mixes,
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            progress=progress,
            **options,
        )
        for number, mix in enumerate(mixes, start=1):
            wanted = {steer.name: strength for steer, strength in mix.items()}
            part = [r for r in records if r.strengths == wanted]
            found.append((part, measure(network, tokenizer, part, scorers, worst=worst)))
            if progress:
                progress("measure", number, len(mixes))
    return found
