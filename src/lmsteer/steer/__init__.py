"""A steer, what its strengths mean, several as one: values that know no model and no disk."""

from .calibration import safe_range as safe_range
from .composition import compose as compose
from .composition import interference as interference
from .factors import FACTOR_DTYPES as FACTOR_DTYPES
from .fingerprint import Fingerprint as Fingerprint
from .labelling import labels as labels
from .naming import CONTROLS as CONTROLS
from .naming import check_name as check_name
from .naming import file_name as file_name
from .naming import name_of_folder as name_of_folder
from .naming import told_apart as told_apart
from .naming import unique_file_names as unique_file_names
from .sites import REACHES as REACHES
from .sites import SITES as SITES
from .sites import Reach as Reach
from .sites import Site as Site
from .steer import Steer as Steer
from .strengths import StrengthWarning as StrengthWarning
from .strengths import mix_texts as mix_texts
from .strengths import resolve_strength as resolve_strength
from .strengths import strength_at_kl as strength_at_kl
from .strengths import strength_texts as strength_texts
from .strengths import warn_past_range as warn_past_range
