"""`generate` and `stream`: steered text for prompts, strengths and samples."""

from .options import OPTIONS as OPTIONS
from .options import GenerateOptions as GenerateOptions
from .options import SamplingOptions as SamplingOptions
from .records import Generation as Generation
from .records import by_mix as by_mix
from .streaming import stream as stream
from .writing import generate as generate
