"""The options of training, each declared once, and which of them go together."""

# No `from __future__ import annotations`: the declarations are read when the program runs.
from os import PathLike
from typing import Annotated, Literal, TypedDict, get_args

from ..errors import InputError
from ..states import Check, JobOptions, Option, Options, WatchedOptions, among, at_least
from ..steer import REACHES, SITES, Reach, Site, Steer
from ..text import Weight

SolverName = Literal["newton", "convex", "cached", "paper"]
SOLVERS: tuple[SolverName, ...] = get_args(SolverName)


class ReadOptions(WatchedOptions, total=False):
    """The options of one pass over labelled texts."""

    fast: Annotated[
        bool,
        Option(
            True,
            "Compute in bf16 where the hardware multiplies it natively (the numbers in the record "
            "are always computed in float32). This is several times faster, but it turns "
            "differences in the last bits into visible ones: a text's rows differ by a percent "
            "between batches of other texts, and with the solvers convex and cached the steer "
            "differs by about 0.5% with another number of processes.",
        ),
    ]
    max_length: Annotated[
        int | None,
        Option(
            None,
            "The number of tokens that longer texts are cut to. By default it is the model's "
            "context, but at most 1024 (256 for the solver paper).",
            at_least(1),
        ),
    ]


class KeptOptions(TypedDict, total=False):
    """The options of a pass that can be interrupted, and that may read chats."""

    chat: Annotated[
        bool,
        Option(
            False,
            "The model is a chat model: each prompt is put into the tokenizer's chat template as a "
            "user's turn, and the text is the answer, the only part that is learned from.",
        ),
    ]
    folder: Annotated[
        str | PathLike[str] | None,
        Option(
            None,
            "A folder to keep the hidden states in as they are read, so that an interrupted "
            "training can be resumed (a kill loses at most 16 batches). The caller deletes it.",
            decides=False,
            recorded=False,
        ),
    ]
    resume: Annotated[
        bool,
        Option(False, "Go on with what `folder` holds.", decides=False, recorded=False),
    ]


class StatisticsOptions(ReadOptions, KeptOptions, total=False):
    """The options of `read_statistics`."""

    sampled: Annotated[
        int,
        Option(
            32,
            "One token in so many is kept with its row; a multiple of 8. The rows decide how long "
            "a steer is at strength 1, and the ridge where several statistics are solved together.",
            Check("a multiple of 8, at least 8", lambda value: value >= 8 and value % 8 == 0),
        ),
    ]


class TextOptions(JobOptions, ReadOptions, total=False):
    """The options of training that self-training takes too."""

    rank: Annotated[
        int | None,
        Option(
            None,
            "The number of columns of P and Q to keep, from 1 to dim, in both parts. By default "
            "the fewest (of 4, 8, 16, ..., dim) that do nearly what the best number does on "
            "held-out texts: 95% of the separation of the labels, and of what the domain part "
            "gains in NLL (for the solver convex: within 0.002 nats per token). All of them where "
            "nothing is held out, and for the solvers cached and paper; 32 at the input site.",
            recorded=False,  # the record says what was kept
        ),
    ]
    domain: Annotated[
        bool,
        Option(
            True, "Learn the domain part too: what all the texts share, whatever their label is."
        ),
    ]
    weight: Annotated[
        Weight | str,
        Option(
            "token",
            '"token": every target token counts the same. "text": every text counts the same.',
            among(get_args(Weight)),
        ),
    ]
    balance: Annotated[
        bool, Option(False, "Give the texts above 0 and those below 0 the same total weight.")
    ]
    held_out: Annotated[
        float,
        Option(
            0.1,
            "The share of the different texts that is held out, to decide when to stop and to "
            "report on, from 0 to below 1. Texts of each sign of the label are always learned "
            "from, and held out too wherever there are two different ones of that sign.",
            Check("in [0, 1)", lambda value: 0 <= value < 1),
            recorded=False,  # the record says which texts were held out
        ),
    ]
    salt: Annotated[str, Option("", "A word that decides which texts are held out.")]
    ridge: Annotated[
        float | None,
        Option(
            None,
            "The strength of the penalty on the map, for the solvers newton and convex: a number "
            "above 0, in units of the mean curvature. By default it is chosen on the held-out "
            "texts near 1e5 / tokens, and is 1e5 / tokens where nothing is held out (for convex, "
            "also where there are 65,536 tokens or more).",
            Check("above 0", lambda value: value > 0),
        ),
    ]
    memory: Annotated[
        float,
        Option(
            4.0,
            "How many GiB of hidden states are held in memory; if there are more, they go to a "
            "temporary file.",
            decides=False,
            recorded=False,
        ),
    ]
    solver: Annotated[
        SolverName | str,
        Option(
            "newton",
            'How the map is learned. "newton": a damped Newton step for the style and a few for '
            "the domain part, for which the head reads a sample of the tokens alone; ridge and "
            "rank are those that separate the labels of held-out texts best. "
            '"convex": second-order steps towards the least NLL, on the states of all tokens. Both '
            'give the same steer for the same texts in any order. "cached": Adam on the same '
            'states. "paper": the official recipe.',
            among(SOLVERS),
        ),
    ]


class TrainOptions(TextOptions, KeptOptions, total=False):
    """The options of training."""

    site: Annotated[
        Site | str,
        Option(
            "output",
            'Where the steer acts. "output": on the hidden states that the head reads, the '
            'paper\'s LM-Steer. "input": on the input embeddings (Input-Steer), learned by '
            "gradients through the frozen trunk; this changes how text is read, and `solver`, "
            "`memory` and `folder` do not apply.",
            among(SITES),
        ),
    ]
    steps: Annotated[
        int | None,
        Option(
            None,
            "The largest number of optimiser steps (for newton: of the domain part). By default "
            "each solver has its own.",
            at_least(1),
        ),
    ]
    start: Annotated[
        Steer | None,
        Option(
            None,
            "A steer of this model to begin with, which also decides where the texts say little. "
            "It is for the solver convex and for the input site. By default training begins with "
            "the unsteered model.",
            recorded=False,
        ),
    ]
    where: Annotated[
        Reach | str,
        Option(
            "all",
            'The positions that are steered, at the input site. "all": every position. "prompt": '
            "the prompts of the examples alone; the loss is on the texts after them, as always. "
            "`Steer.where` keeps this, so that `attach` and `generate` then steer prompts alone, "
            "unless another `where` is given.",
        ),
    ]
    checkpointing: Annotated[
        bool,
        Option(
            False,
            "Compute activations twice instead of holding them in memory, at the input site: less "
            "memory, a third more time.",
            decides=False,
            recorded=False,
        ),
    ]


OPTIONS = Options(TrainOptions)


def check_together(options: TrainOptions) -> None:
    """Raise InputError for options that do not go together."""
    solver, where, folder = options["solver"], options["where"], options["folder"]
    if options["site"] == "input":
        if where not in REACHES:
            raise InputError(f'where must be "all" or "prompt", was: {where!r}')
        if solver != OPTIONS["solver"].default or folder is not None:
            raise InputError(
                'site="input" has a solver of its own (Adam through the trunk) and nothing to '
                "keep in a folder: leave out solver=, folder= and resume="
            )
    elif where != "all" or options["checkpointing"]:
        raise InputError(
            'where="prompt" and checkpointing= go with site="input": at the output site the '
            "trunk is read once and has no gradient, and what the prompt's states predict is "
            "the prompt itself"
        )
    elif options["start"] is not None and solver != "convex":
        raise InputError(f'start= goes with solver="convex", was: {solver!r}')
    if options["ridge"] is not None and solver not in ("newton", "convex"):
        raise InputError(f'ridge= goes with solver="newton" or "convex", was: {solver!r}')
    if options["resume"] and (folder is None or solver == "paper"):
        raise InputError(
            'resume= goes on with what folder= holds, for every solver but "paper"; '
            f"here folder was {str(folder)!r} and solver was {solver!r}"
        )
