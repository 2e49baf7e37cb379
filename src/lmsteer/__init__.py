"""Steer any causal language model by a learned linear map on its word embeddings.

    import lmsteer
    model, tokenizer = lmsteer.load_model("bundled")
    steer = lmsteer.train(model, tokenizer, lmsteer.read_examples("bundled:sentiment"))
    with lmsteer.attach(model, {steer: 2.0}):
        ...

The method is LM-Steer (Han et al., "Word Embeddings Are Steers for Language Models", ACL 2024).
"""

from .alignment import transfer as transfer
from .attachment import attach as attach
from .calibration import calibrate as calibrate
from .composition import compose as compose
from .composition import interference as interference
from .errors import LmsteerError as LmsteerError
from .examples import Example as Example
from .generation import Generation as Generation
from .generation import generate as generate
from .generation import stream as stream
from .merging import merge as merge
from .models import load_model as load_model
from .official import import_official as import_official
from .readers import read_examples as read_examples
from .readers import read_prompts as read_prompts
from .self_training import self_train as self_train
from .steer import Steer as Steer
from .storage import load_steer as load_steer
from .training import train as train
from .training import train_jointly as train_jointly

__version__ = "0.1.0"
__all__ = [
    "Example",
    "Generation",
    "LmsteerError",
    "Steer",
    "attach",
    "calibrate",
    "compose",
    "generate",
    "import_official",
    "interference",
    "load_model",
    "load_steer",
    "merge",
    "read_examples",
    "read_prompts",
    "self_train",
    "stream",
    "train",
    "train_jointly",
    "transfer",
]
