"""`Generation`: one generated text, and the records of each mapping of strengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import MismatchError


@dataclass(frozen=True)
class Generation:
    """One sampled continuation.

    Args:
        prompt: The prompt as it was given (in its chat template, if there is one).
        text: The continuation alone.
        strengths: The strength of each steer, by its name. Steers of one name in one call have
            numbers, ``"mood#1"`` and ``"mood#2"`` (`lmsteer.steer.labelling.labels`).
        sample: The number of the sample among those of its prompt and strengths, from 0.
        seed: The `seed` of the call.
        mix: The number of its mapping among the `strengths` of the call, from 0. Use it to group
            records: two mappings may have the same names and strengths. Records that differ by it
            alone are equal.
        losses: With ``losses=True``, the NLL in nats of each token of the text (without one that
            ends it) under the model without steers, given the prompt.
    """

    prompt: str
    text: str
    strengths: Mapping[str, float]
    sample: int
    seed: int
    mix: int = field(default=0, compare=False)
    losses: tuple[float, ...] | None = field(default=None, compare=False, repr=False)


def by_mix(records: Sequence[Generation], count: int) -> list[list[Generation]]:
    """The records of each mapping of `strengths`, in the order the mappings were given.

    Args:
        records: The records of one call of `generate`, or of several with the same `strengths`.
        count: The number of mappings.

    Raises:
        MismatchError: A record belongs to a mapping beyond `count`.
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
