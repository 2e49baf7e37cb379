"""Every argument and option that more than one command takes, declared once, with its help.

A command takes one by its annotation (``seed: Seed = SEED``), so that a name means the same thing
everywhere. What one command alone takes stands in that command.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from .labelled import Data as Data
from .labelled import Format as Format
from .labelled import Label as Label
from .labelled import Negative as Negative
from .labelled import Positive as Positive
from .labelled import PromptColumn as PromptColumn
from .labelled import Scale as Scale
from .labelled import Split as Split
from .labelled import TextColumn as TextColumn

# What each command uses where the user says nothing.
MODEL = "bundled"
SEED = 0
TOP_P = 0.9
NEUTRAL = "bundled:neutral"

# Steers: read by `steers`, where the rule stands that this help tells.
Mix = Annotated[
    list[str] | None,
    Argument(
        metavar="NAME[=STRENGTHS]",
        help="Steers and their strengths: sentiment=3. Several strengths are compared "
        "(sentiment=-3,0,3), and several steers are mixed. NAME alone means strength 1. A name is "
        "a folder, a steer that comes with the model, or user/name on the Hub; NAME.domain is the "
        "domain part of a steer.",
        show_default=False,
    ),
]
Fixed = Annotated[
    list[str],
    Argument(
        metavar="NAME[=STRENGTH]",
        help="Steers, each at one strength: sentiment=2. Several add up. NAME alone means "
        "strength 1, and NAME.domain is the domain part of a steer.",
        show_default=False,
    ),
]
Measured = Annotated[
    str,
    Argument(
        metavar="NAME[=STRENGTHS]",
        help="A steer and the strengths to measure it at: sentiment=-3,0,3. NAME alone is measured "
        "from --from to --to. NAME.domain is the domain part of a steer.",
        show_default=False,
    ),
]
Name = Annotated[
    str,
    Argument(
        metavar="NAME",
        help="A steer, without a strength: a folder, a steer that comes with the model, or "
        "user/name on the Hub. NAME.domain is the domain part of a steer.",
        show_default=False,
    ),
]

# The model, and where it is computed.
_MODEL = Option(
    "--model",
    help="The model: bundled, bundled-small, smollm2, gemma-3-270m, a local folder, a GGUF file, "
    "or a Hub id.",
)
Model = Annotated[str, _MODEL]
OptionalModel = Annotated[str | None, _MODEL]
Device = Annotated[
    str | None,
    Option(
        "--device",
        help="Where the model is computed: cuda, mps, cpu, or auto to spread a large model over "
        "all devices.  [default: the best there is]",
    ),
]
Dtype = Annotated[
    str | None,
    Option(
        "--dtype",
        help="The number format of the model's weights: float32, bfloat16, float16, or auto for "
        "its own.  [default: float32 on a CPU, and in exports the model's own]",
    ),
]

# What is written, and what is printed.
_OUT = Option("--out", help="The folder to write the result to.", show_default=False)
Out = Annotated[Path, _OUT]
OptionalOut = Annotated[Path | None, _OUT]
SteerName = Annotated[
    str | None, Option("--name", help="The name of the new steer.  [default: the folder's name]")
]
Force = Annotated[
    bool, Option("--force", help="Replace what this command wrote to the same place before.")
]
Json = Annotated[
    bool,
    Option(
        "--json",
        help="Print the result as exactly one JSON document on stdout, and nothing else there.",
    ),
]
Figure = Annotated[
    Path | None, Option("--figure", help="Draw a figure into this file (PNG, PDF or SVG).")
]
Figures = Annotated[Path | None, Option("--figures", help="Draw figures into this folder.")]

# Prompts, and how they are continued.
Prompts = Annotated[
    list[str] | None,
    Option(
        "--prompts",
        help="A file of prompts, one per line or JSONL, or bundled:SET with SET one of neutral, "
        "positive, negative, request. May be given several times.",
    ),
]
Count = Annotated[
    int | None,
    Option(
        "--count",
        min=1,
        help="How many prompts are taken, from the first.  [default: 50 in sweep and grid, else "
        "all]",
        show_default=False,
    ),
]
Samples = Annotated[
    int, Option("--samples", help="How many continuations are sampled per prompt and strength.")
]
Tokens = Annotated[int, Option("--tokens", help="How many tokens a continuation has at most.")]
TopP = Annotated[
    float,
    Option(
        "--top-p",
        help="Nucleus sampling: the likeliest tokens are kept until their probabilities sum to "
        "this share.",
    ),
]
Nucleus = Annotated[
    str,
    Option(
        "--nucleus",
        help="Whose likeliest tokens are kept: those of the steered model (steered), or of the "
        "model without steers (base), which is more fluent.",
    ),
]
Seed = Annotated[
    int,
    Option(
        "--seed",
        help="The seed of all random choices: the same seed gives the same result, another seed "
        "gives other samples.",
    ),
]
BatchSize = Annotated[
    int, Option("--batch-size", help="How many texts are computed at once; fewer need less memory.")
]
Chat = Annotated[
    bool,
    Option(
        "--chat",
        help="Treat each prompt as a user's turn and each text as the answer of a chat model.",
    ),
]
Where = Annotated[
    str,
    Option(
        "--where",
        help="Which tokens are steered: all, prompt or response. train takes all or prompt, at the "
        "input site; generate also takes trained: what each steer was trained for.",
    ),
]

# What continuations are judged by.
Task = Annotated[
    str,
    Option(
        "--task",
        help="sentiment or detox, which choose prompts and scorers; or custom, with --prompts and "
        "--scorer.",
    ),
]
Scorers = Annotated[
    list[str] | None,
    Option(
        "--scorer",
        help="What judges the style of a text: sentiment, toxicity, vader; sentiment:minilm, "
        "sentiment:smollm2 or the same of toxicity, which read with another model; a .safetensors "
        "file, module:callable, or a Hub classifier. May be given several times.  [default: the "
        "task's; sentiment without a task]",
    ),
]

# Strengths of a range: read by `measured`.
Low = Annotated[
    float | None, Option("--from", help="The lowest strength of a steer given by its name alone.")
]
High = Annotated[
    float | None, Option("--to", help="The highest strength of a steer given by its name alone.")
]
Points = Annotated[
    int | None,
    Option("--points", help="How many strengths are measured from --from to --to, evenly spaced."),
]

# What is learned; the options of labelled texts stand in `labelled`.
Rank = Annotated[
    int | None,
    Option(
        "--rank",
        help="How many directions of the map are kept.  [default: train keeps as few as suffice, "
        "solve keeps 16, export keeps all]",
    ),
]
Ridge = Annotated[
    float | None,
    Option(
        "--ridge",
        help="The strength of the penalty on the map, in units of the mean curvature, for train's "
        "solvers newton and convex.  [default: chosen on texts that are not learned from, near 1e5 "
        "/ tokens; solve takes 1e5 / tokens from one folder alone]",
    ),
]
Resume = Annotated[
    bool,
    Option("--resume", help="Go on with work for the same --out that was interrupted."),
]
Calibrate = Annotated[
    bool,
    Option("--calibrate/--no-calibrate", help="Measure afterwards what each strength of it costs."),
]
