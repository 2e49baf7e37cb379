"""`Generation`: one text as it was written, and records sorted by what they were steered by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import MismatchError


@dataclass(frozen=True)
class Generation:
    """One sampled continuation.

    Args:
        prompt: As it was given.
        text: The continuation alone.
        strengths: Strength of each steer by its name; steers of one name in one call have numbers,
            ``"mood#1"`` and ``"mood#2"`` (`lmsteer.steer.labelling.labels`).
        sample: Number of the sample among those of its prompt and strengths, from 0.
        seed: The `seed` of the call.
        mix: Number of its mapping among the `strengths` of the call, from 0. Records belong
            together by it; names and strengths may be those of another mapping too. It says what
            was asked for, not what was written: records that differ by it alone are equal.
    """

    prompt: str
    text: str
    strengths: Mapping[str, float]
    sample: int
    seed: int
    mix: int = field(default=0, compare=False)


def by_mix(records: Sequence[Generation], count: int) -> list[list[Generation]]:
    """The records of each mapping of `strengths`, in the order the mappings were given.

    Args:
        records: Of one call of `generate`, or of several with the same `strengths`.
        count: How many mappings there were.

    Raises:
        MismatchError: A record of a further mapping.
    """
    parts: list[list[Generation]] = [[] for _ in range(count)]
    for record in records:
        if not 0 <= record.mix < count:
            raise MismatchError(
                f"got a record of mapping number {record.mix} where {count} mappings of strengths "
                f"were expected, from 0 to {count - 1}"
            )
        parts[record.mix].append(record)
    return parts
