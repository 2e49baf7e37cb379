"""Write at several strengths, measure, report: what `lmsteer sweep` and `lmsteer evaluate` do."""

from .measuring import check_scorers as check_scorers
from .measuring import measure as measure
from .report import environment as environment
from .report import labels_of as labels_of
from .report import markdown as markdown
from .run import resumable as resumable
