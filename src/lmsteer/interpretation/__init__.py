"""What a steer learned, and what it finds in a text."""

from .html import page as page
from .reading import read_texts as read_texts
from .spans import Evidence as Evidence
from .spans import Span as Span
from .spans import Token as Token
from .spans import best_runs as best_runs
from .spans import evidence as evidence
from .subspaces import overlaps as overlaps
from .subspaces import subspace_angles as subspace_angles
from .value import StyleValue as StyleValue
from .value import style_value as style_value
from .words import Direction as Direction
from .words import Shift as Shift
from .words import directions as directions
from .words import word_shifts as word_shifts
