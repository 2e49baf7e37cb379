"""`generate` and `stream`: steered text for prompts, strengths and samples."""

from .records import Generation as Generation
from .records import by_mix as by_mix
from .streaming import stream as stream
from .writing import generate as generate
