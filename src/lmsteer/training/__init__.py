"""`train`: labelled text and a frozen model in, a `Steer` out.

Solvers: ``"convex"``, the default, reads the trunk once and takes second-order steps on the head
alone; ``"cached"`` takes Adam steps on the same states; ``"paper"`` is the official recipe, which
recomputes the trunk at every step. All learn the same objective (Han et al. 2024, section 3.2) and
the domain part.
"""

from .fitting import learn as learn
from .options import SOLVERS as SOLVERS
from .options import Options as Options
from .options import Solver as Solver
