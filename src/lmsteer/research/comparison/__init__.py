"""Methods of control side by side: fitted on one set of examples, judged by one set of scorers."""

from .comparing import Settings as Settings
from .comparing import compare as compare
from .curves import best_within as best_within
from .methods import METHODS as METHODS
from .methods import Steered as Steered
from .report import Goal as Goal
from .report import write_report as write_report
from .rows import Row as Row
