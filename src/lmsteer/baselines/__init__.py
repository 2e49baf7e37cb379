"""The methods that the paper compares with: fitted on the same examples, attached at a strength."""

from .dapt import DAPT as DAPT
from .dexperts import DExperts as DExperts
from .gedi import GeDi as GeDi
from .method import Method as Method
from .pplm import PPLM as PPLM
