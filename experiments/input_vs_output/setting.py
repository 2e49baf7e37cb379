"""What the scripts share: the model, the steers, a result's file, a curve's value at a cost."""

from __future__ import annotations

import argparse
import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import lmsteer
from experiments.shared.results import write_results
from lmsteer import Steer
from lmsteer.research.evaluation.document import environment

RESULTS = Path(__file__).parent / "results"
STRENGTHS = (-6.0, -4.0, -3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0)
RATIOS = (1.02, 1.05, 1.1, 1.25, 1.5, 2.0)
PROMPT_ONLY = ("in-halves", "in-reading")


def arguments(doc: str) -> argparse.Namespace:
    """``--data`` and ``--work``."""
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, required=True)
    return parser.parse_args()


def steers(work: Path, model: Any, names: Sequence[str]) -> dict[str, Steer]:
    """By name: a folder of WORK, or a steer shipped with the model."""
    return {
        name: lmsteer.load_steer(work / name if (work / name).exists() else name, model)
        for name in names
    }


def where(name: str) -> str:
    """The positions that a steer was made for."""
    return "prompt" if name in PROMPT_ONLY else "all"


def at_ratio(curve: Mapping[float, tuple[float, float]], ratio: float, sign: int) -> float | None:
    """A curve's effect where its cost crosses a ratio, on one side of 0, between strengths.

    Args:
        curve: Strength -> (effect, cost relative to strength 0).
        ratio: Cost.
        sign: Of the strengths.

    Returns:
        The effect by linear interpolation in the log of the cost; where the cost never crosses
        the ratio, that of the last strength that costs less; None where the first costs more.
    """
    points = [(abs(s), *curve[s]) for s in sorted(curve, key=abs) if s * sign >= 0]
    for (_, effect, cost), (_, next_effect, next_cost) in itertools.pairwise(points):
        if cost <= ratio < next_cost:
            share = (np.log(ratio) - np.log(cost)) / (np.log(next_cost) - np.log(cost))
            return float(effect + share * (next_effect - effect))
    return float(points[-1][1]) if points[-1][2] <= ratio else None


def at_ratios(
    curve: Mapping[float, tuple[float, float]],
) -> dict[str, dict[str, float | None]]:
    """`at_ratio` for each of `RATIOS`, above 0 and below."""
    return {
        f"{ratio:g}": {"+": at_ratio(curve, ratio, 1), "-": at_ratio(curve, ratio, -1)}
        for ratio in RATIOS
    }


def keep(name: str, rows: Any, **facts: Any) -> None:
    """Write a result with what machine made it."""
    write_results(RESULTS / f"{name}.json", {"facts": {**facts, **environment()}, "rows": rows})


@contextlib.contextmanager
def steered(model: Any, steer: Steer, strength: float, **options: Any) -> Iterator[None]:
    """`lmsteer.attach` of one steer; past its calibrated range too, without a word."""
    import warnings

    from lmsteer.steer.calibration import StrengthWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StrengthWarning)
        with lmsteer.attach(model, {steer: strength}, **options):
            yield
