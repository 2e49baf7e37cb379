"""Figures, drawn from plain numbers; drawing one leaves no global state behind."""

from .evaluation import grid_figure as grid_figure
from .evaluation import strength_figure as strength_figure
from .evaluation import tradeoff_figure as tradeoff_figure
from .interpretation import overlaps_figure as overlaps_figure
from .interpretation import value_figure as value_figure
from .interpretation import words_figure as words_figure
from .plotting import COLOURS as COLOURS
from .plotting import check_matplotlib as check_matplotlib
from .plotting import subplots as subplots
