"""One pass of the frozen trunk: the states of every target, kept in memory or on disk."""

from .cache import Keep as Keep
from .hidden import read_states as read_states
from .losses import encode_for as encode_for
from .losses import target_losses as target_losses
from .losses import text_losses as text_losses
from .options import Check as Check
from .options import JobOptions as JobOptions
from .options import Option as Option
from .options import Options as Options
from .options import among as among
from .options import at_least as at_least
from .pooling import Pooling as Pooling
from .pooling import read_pooled as read_pooled
from .processes import Workers as Workers
from .processes import joined as joined
from .processes import workers as workers
from .progress import LABELS as LABELS
from .progress import SHOWN as SHOWN
from .progress import Progress as Progress
from .progress import drawn as drawn
from .progress import watched as watched
from .states import States as States
