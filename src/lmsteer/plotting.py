"""matplotlib where it is installed (extra `plot`), and the colours of all figures."""

from __future__ import annotations

from typing import Any

from .errors import MissingExtraError

# Colour-blind safe (Okabe and Ito).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def pyplot() -> Any:
    """`matplotlib.pyplot`, drawing to files alone.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot", "drawing a figure") from error
    return pyplot
