"""The methods that the paper compares with: fitted on the same examples, attached at a strength."""

from .best_of import BestOf as BestOf
from .caa import CAA as CAA
from .dapt import DAPT as DAPT
from .dexperts import DExperts as DExperts
from .gedi import GeDi as GeDi
from .head_tuning import HeadTuning as HeadTuning
from .lora import LoRA as LoRA
from .method import Method as Method
from .pplm import PPLM as PPLM
from .prefix import PrefixTuning as PrefixTuning
from .prompting import FewShot as FewShot
from .prompting import Instruction as Instruction
from .swb import SWB as SWB
