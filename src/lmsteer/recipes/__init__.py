"""What joins rooms: training with calibration, calibration, self-training."""

from .calibration import calibrate as calibrate
from .self_training import OPTIONS as OPTIONS
from .self_training import self_train as self_train
from .training import calibrated as calibrated
from .training import train as train
from .training import train_jointly as train_jointly
