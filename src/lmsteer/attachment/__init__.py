"""Every hook that a steer puts on a model; nothing else of the library touches a model's inside."""

from .attach import Attachment as Attachment
from .attach import Strength as Strength
from .attach import alone as alone
from .attach import attach as attach
from .fit import check_everywhere as check_everywhere
from .fit import check_fit as check_fit
from .fit import input_dim as input_dim
from .positions import Part as Part
from .positions import Where as Where
from .positions import check_where as check_where
from .reading import base_rows as base_rows
from .reading import cache_name as cache_name
from .reading import changed_inputs as changed_inputs
from .reading import read_hidden as read_hidden
from .watch import around as around
from .watch import watches as watches
