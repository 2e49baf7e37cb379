"""Methods of control: each is fitted on the same labelled texts and attached at a strength.

One file per method; `registry` finds them. Files without a method hold what several share:
`adapters` (PEFT), `beside` (models that read along), `finetune`, `frozen` (learning on hidden
states that were read once), `past` (keys and values before the text), `prompting`. `offsets`
belongs to `swb`, and `perturbed` to `pplm`.
"""

from .lm_steer import ready_steer as ready_steer
from .method import Method as Method
from .registry import load_methods as load_methods
