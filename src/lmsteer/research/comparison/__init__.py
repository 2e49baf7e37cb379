"""Methods of control side by side: fitted on one set of examples, judged by one set of scorers."""

from .choosing import method_names as method_names
from .comparing import compare as compare
from .curves import best_within as best_within
from .report import Goal as Goal
from .report import write_report as write_report
from .rows import MethodRow as MethodRow
from .settings import Settings as Settings
