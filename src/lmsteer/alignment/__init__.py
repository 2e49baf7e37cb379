"""A steer carried from one model to another."""

from .transfer import FORMS as FORMS
from .transfer import TransferWarning as TransferWarning
from .transfer import transfer as transfer
