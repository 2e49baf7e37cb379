"""`Estimate`: a value with its count and interval; the bootstrap behind it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError

RESAMPLES = 1000


@dataclass(frozen=True)
class Estimate:
    """A measured number.

    Args:
        value: The number itself.
        count: How many records (or tokens, where said so) it rests on.
        low: Lower end of the 95% bootstrap interval.
        high: Upper end.
    """

    value: float
    count: int
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def bootstrap(
    columns: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    groups: Sequence[Hashable],
    *,
    count: int | None = None,
    seed: int = 0,
) -> Estimate:
    """A statistic of sums, with its 95% percentile interval over resampled groups.

    Args:
        columns: ``(records, columns)``, what is summed over the records of a sample.
        statistic: From sums ``(..., columns)`` to values ``(...)``: for a mean, the sum over the
            number, ``lambda s: s[..., 0] / s[..., 1]``.
        groups: For each record, what it hangs together with (its prompt); groups are resampled
            whole.
        count: What `Estimate.count` says; the number of records by default.
        seed: Of the resampling; numpy's global state is not touched.

    Raises:
        InputError: No records.
    """
    if len(columns) == 0:
        raise InputError("no records to measure; expected at least one")
    numbers = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    index = np.array([numbers[group] for group in groups])
    sums = np.zeros((len(numbers), columns.shape[1]))
    np.add.at(sums, index, columns.astype(np.float64))
    drawn = np.random.default_rng(seed).multinomial(
        len(sums), np.full(len(sums), 1 / len(sums)), size=RESAMPLES
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        values = statistic(drawn @ sums)
        value = float(statistic(sums.sum(0)))
    low, high = np.nanpercentile(values, [2.5, 97.5]) if np.isfinite(values).any() else (value,) * 2
    return Estimate(value, len(columns) if count is None else count, float(low), float(high))
