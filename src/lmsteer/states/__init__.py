"""One frozen pass: what the head reads at every target, kept in memory or on disk."""

from .cache import Keep as Keep
from .hidden import read_states as read_states
from .losses import target_losses as target_losses
from .processes import Workers as Workers
from .processes import joined as joined
from .processes import workers as workers
from .progress import Progress as Progress
from .states import States as States
