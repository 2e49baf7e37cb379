"""Style of records by scores in [-1, 1] that any scorer gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .estimates import Estimate, bootstrap

if TYPE_CHECKING:
    from ..generation import Generation


def positive_rate(records: Sequence[Generation], scores: np.ndarray) -> Estimate:
    """Share of records scored above 0, in [0, 1]; a score of exactly 0 counts one half."""
    return mean_score(records, (np.sign(scores) + 1) / 2)


def mean_score(records: Sequence[Generation], scores: np.ndarray) -> Estimate:
    """Mean of the scores."""
    columns = np.stack([scores, np.ones(len(scores))], axis=1)
    return bootstrap(columns, lambda s: s[..., 0] / s[..., 1], [r.prompt for r in records])
