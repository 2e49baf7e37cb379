"""Steer any causal language model by a learned linear map on its word embeddings.

    import lmsteer
    model, tokenizer = lmsteer.load_model("bundled")
    steer = lmsteer.train(model, tokenizer, lmsteer.read_examples("bundled:sentiment"))
    with lmsteer.attach(model, {steer: 2.0}):
        ...

The method is LM-Steer (Han et al., "Word Embeddings Are Steers for Language Models", ACL 2024).
"""

from . import storage
from .alignment import transfer as transfer
from .errors import LmsteerError as LmsteerError
from .generation import Generation as Generation
from .generation import generate as generate
from .generation import stream as stream
from .model import attach as attach
from .model import load_model as load_model
from .model import merge as merge
from .recipes import calibrate as calibrate
from .recipes import train as train
from .states import Statistics as Statistics
from .steer import Steer as Steer
from .steer import compose as compose
from .storage import load_steer as load_steer
from .text import Example as Example
from .text import read_examples as read_examples
from .text import read_prompts as read_prompts
from .training import read_statistics as read_statistics
from .training import solve as solve

__version__ = "0.1.0"

# Steers are values that know no disk; this is where they are saved to and loaded from.
Steer.keeper = storage

__all__ = [
    "Example",
    "Generation",
    "LmsteerError",
    "Statistics",
    "Steer",
    "attach",
    "calibrate",
    "compose",
    "generate",
    "load_model",
    "load_steer",
    "merge",
    "read_examples",
    "read_prompts",
    "read_statistics",
    "solve",
    "stream",
    "train",
    "transfer",
]
