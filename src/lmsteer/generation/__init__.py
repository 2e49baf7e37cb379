"""`generate` and `stream`: steered text for prompts, strengths and samples."""

from .generate import Generation as Generation
from .generate import generate as generate
from .streaming import stream as stream
