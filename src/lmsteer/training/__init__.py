"""`fit`: labelled text and a frozen model in, steers out.

Solvers: ``"convex"``, the default, reads the trunk once and takes second-order steps on the head
alone; ``"cached"`` takes Adam steps on the same states; ``"paper"`` is the official recipe, which
recomputes the trunk at every step. All learn the same objective (Han et al. 2024, section 3.2) and
the domain part. `OPTIONS` has everything that can be chosen.
"""

from .descent import by_gradient as by_gradient
from .descent import descend as descend
from .descent import warmed_up as warmed_up
from .fitting import fit as fit
from .options import OPTIONS as OPTIONS
from .options import SOLVERS as SOLVERS
from .options import TextOptions as TextOptions
from .options import TrainOptions as TrainOptions
