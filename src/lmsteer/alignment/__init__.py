"""A steer carried from one model to another."""

from .transport import FORMS as FORMS
from .transport import TransferWarning as TransferWarning
from .transport import transfer as transfer
