"""Language models: loading them, and the small ones that come with the package."""

from .load import BUNDLED_MODELS as BUNDLED_MODELS
from .load import load_model as load_model
from .load import model_folder as model_folder
