"""`generate` and `stream`: steered text for prompts, strengths and samples."""

from .generate import generate as generate
from .records import Generation as Generation
from .records import by_mix as by_mix
from .streaming import stream as stream
