"""Figures by matplotlib, if it is installed (extra `plot`), and the colours of all figures.

A figure is made by itself, not by `pyplot`: that would choose a backend for the whole process, and
keep every figure until it is closed.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from ..errors import MissingExtraError

# Colour-blind safe (Okabe and Ito).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


@runtime_checkable
class Interval(Protocol):
    """A measured number with its 95% interval; `metrics.Estimate` is one."""

    @property
    def value(self) -> float:
        """The measured value."""
        ...

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        ...

    @property
    def high(self) -> float:
        """The upper end of the interval."""
        ...


def check_matplotlib() -> None:
    """Raise MissingExtraError if matplotlib is not installed; call it before long work."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot", "drawing a figure") from error


def subplots(
    rows: int = 1, columns: int = 1, *, figsize: tuple[float, float], **options: Any
) -> tuple[Any, Any]:
    """A figure to draw on and to save to a file, and its axes.

    Args:
        rows: The number of rows of panels.
        columns: The number of columns of panels.
        figsize: The width and the height, in inches.
        **options: Options of `matplotlib.figure.Figure.subplots`, such as `squeeze` and `sharex`.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    check_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=figsize)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, **options)
