"""What lies on disk: a steer's folder, how any folder of ours is written, steers by name.

Only this room knows the format. Nothing is ever unpickled.
"""

from .card import front_matter as front_matter
from .card import steer_lines as steer_lines
from .facts import FACTS as FACTS
from .facts import measured as measured
from .finding import load_steer as load_steer
from .finding import shipped_steers as shipped_steers
from .folders import MARK as MARK
from .folders import check_place as check_place
from .folders import is_free as is_free
from .folders import working as working
from .folders import write_file as write_file
from .folders import writing as writing
from .hub import pull_steer as pull_steer
from .hub import push_steer as push_steer
from .official import EPSILON as EPSILON
from .official import import_official as import_official
from .official import read_official as read_official
from .statistics import check_statistics_writable as check_statistics_writable
from .statistics import load_statistics as load_statistics
from .statistics import save_statistics as save_statistics
from .steers import check_writable as check_writable
from .steers import read_steer as read_steer
from .steers import save_steer as save_steer
