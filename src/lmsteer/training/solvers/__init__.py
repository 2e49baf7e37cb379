"""The ways to learn the map: each takes a `Problem` and gives a `Fitted`.

A new one is a file with such a function, a line in `_TABLE`, and its name in `options.SolverName`.
"""

from collections.abc import Mapping

from ..options import TrainOptions
from .cached import fit_cached
from .choosing import choose as choose
from .choosing import cross_validated as cross_validated
from .convex import fit_convex
from .inputs import fit_inputs
from .newton import MEASURED_ON as MEASURED_ON
from .newton import fit_newton
from .paper import RECIPE, fit_paper
from .problem import Fitted as Fitted
from .problem import Problem as Problem
from .problem import Solver as Solver

_TABLE: Mapping[tuple[str, str], Solver] = {
    ("output", "newton"): Solver(fit_newton),
    ("output", "convex"): Solver(fit_convex),
    ("output", "cached"): Solver(fit_cached),
    ("output", "paper"): Solver(fit_paper, RECIPE.max_length, 'solver="paper"'),
    ("input", "newton"): Solver(fit_inputs, alone='site="input"'),
}


def find_solver(options: TrainOptions) -> Solver:
    """The solver of a site and a name."""
    return _TABLE[options["site"], options["solver"]]
