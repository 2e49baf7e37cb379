"""`train`: labelled text and a frozen model in, a `Steer` out.

Solvers: ``"cached"`` reads the trunk once and takes head-only Adam steps; ``"paper"`` is the
official recipe, which recomputes the trunk at every step. Both learn the same objective
(Han et al. 2024, section 3.2) and the domain part.
"""

from .train import SOLVERS as SOLVERS
from .train import train as train
