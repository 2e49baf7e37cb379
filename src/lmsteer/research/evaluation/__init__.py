"""Write at several strengths, measure, report: what `lmsteer sweep` and `lmsteer evaluate` do."""

from .document import environment as environment
from .document import labels_of as labels_of
from .document import markdown as markdown
from .measuring import check_scorers as check_scorers
from .measuring import measure as measure
from .run import resumable as resumable
