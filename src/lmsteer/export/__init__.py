"""Steers for other engines: plain folders, PEFT adapters, GGUF files. See docs/engines.md."""

from .checkpoint import Checkpoint as Checkpoint
from .checkpoint import open_checkpoint as open_checkpoint
from .folder import export_folder as export_folder
from .gguf import export_gguf as export_gguf
from .notes import check_free as check_free
from .peft import TIED_NOTE as TIED_NOTE
from .peft import export_peft as export_peft
from .peft import guard_merging as guard_merging
