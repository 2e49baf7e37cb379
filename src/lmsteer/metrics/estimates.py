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
        count: The number of records (or of tokens, where the metric says so) behind it.
        low: The lower end of the 95% bootstrap interval.
        high: The upper end.
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
        columns: ``(records, columns)``, the numbers that are summed over a sample's records.
        statistic: A function from sums ``(..., columns)`` to values ``(...)``. For a mean it
            divides the sum by the number: ``lambda s: s[..., 0] / s[..., 1]``.
        groups: The group of each record, such as its prompt. Records of one group are not
            independent, so groups are resampled as a whole.
        count: The value of `Estimate.count`; the number of records by default.
        seed: The seed of the resampling; numpy's global state is not touched.

    Raises:
        InputError: There are no records.
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
