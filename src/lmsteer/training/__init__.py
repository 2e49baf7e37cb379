"""`fit`: labelled text and a frozen model in, steers out.

Solvers: ``"newton"``, the default, solves for the map from sums that one streaming pass gathers;
``"convex"`` takes second-order steps on the states of all tokens; ``"cached"`` takes Adam steps on
the same states; ``"paper"`` is the official recipe, which recomputes the trunk at every step. All
learn the same objective (Han et al. 2024, section 3.2) and the domain part. `OPTIONS` has
everything that can be chosen.
"""

from .descent import by_gradient as by_gradient
from .descent import descend as descend
from .descent import warmed_up as warmed_up
from .fitting import fit as fit
from .options import OPTIONS as OPTIONS
from .options import SOLVERS as SOLVERS
from .options import TextOptions as TextOptions
from .options import TrainOptions as TrainOptions
from .solving import STATISTICS as STATISTICS
from .solving import read_statistics as read_statistics
from .solving import solve as solve
