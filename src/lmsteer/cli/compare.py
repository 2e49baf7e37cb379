"""`lmsteer compare`: steers beside other methods of control, on one model, texts and prompts."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..text import read_examples
from .display import escape, out, print_json, progress_bars
from .given import read_instructions, read_neutral, read_sentences
from .opening import open_model
from .options import (
    MODEL,
    SEED,
    TOP_P,
    BatchSize,
    Count,
    Device,
    Dtype,
    Json,
    Model,
    Out,
    Prompts,
    Samples,
    Scorers,
    Seed,
    Task,
    Tokens,
    TopP,
)
from .prompts import read_files
from .tasks import Chosen, read_task

if TYPE_CHECKING:
    from ..research.comparison import Goal, MethodRow


def compare(
    methods: Annotated[
        list[str],
        typer.Argument(
            metavar="METHOD",
            help="Names of methods (docs/baselines.md) and of steers that are ready: lm-steer lora "
            "sentiment. paper stands for the methods of the paper, and all for every method.",
            show_default=False,
        ),
    ],
    learn: Annotated[
        str,
        typer.Option(
            help="The labelled texts that methods learn from, in any form that train takes.",
            show_default=False,
        ),
    ],
    out_folder: Out,
    task: Task = "sentiment",
    model: Model = MODEL,
    prompts: Prompts = None,
    count: Count = None,
    scorer: Scorers = None,
    neutral: Annotated[
        Path | None,
        typer.Option(
            help="A file of texts, one per line: their perplexity shows what of the model is kept."
        ),
    ] = None,
    sentences: Annotated[
        Path | None,
        typer.Option(
            help="A file of acceptable sentences and others (CoLA's .tsv, or a .csv with the "
            "columns text and acceptable): how well the model tells them apart."
        ),
    ] = None,
    instruction: Annotated[
        list[str] | None,
        typer.Option(
            help="What the method instruction reads before a prompt: given twice, for strength 1 "
            "and then for -1."
        ),
    ] = None,
    slow_count: Annotated[
        int,
        typer.Option(help="How many prompts PPLM continues, which is about 100 times as slow."),
    ] = 10,
    samples: Samples = 25,
    tokens: Tokens = 20,
    top_p: TopP = TOP_P,
    seed: Seed = SEED,
    batch_size: BatchSize = 128,
    device: Device = None,
    dtype: Dtype = None,
    json_: Json = False,
) -> None:
    """Compare steers with other methods, all learned from the same texts, at several strengths.

    All continue the same prompts with the same random numbers: those of --prompts, or the first
    set of the task's. Methods that are done are not measured again when the command is given
    again.

    Example: lmsteer compare lm-steer swb sentiment --learn bundled:sentiment --count 5 --out report
    """
    from ..research.comparison import Settings, method_names, write_report
    from ..research.comparison import compare as compared
    from ..research.evaluation import environment

    chosen = read_task(task, prompts, scorer)
    files = chosen.files if prompts else chosen.files[:1]
    settings: dict[str, Any] = {
        "samples": samples,
        "tokens": tokens,
        "top_p": top_p,
        "seed": seed,
        "batch_size": batch_size,
        "slow_count": slow_count,
    }
    own = {"instructions": read_instructions(instruction)} if instruction else {}
    kept: dict[str, Any] = {
        "neutral": read_neutral(neutral),
        "sentences": read_sentences(sentences),
        "options": own,
    }
    examples = read_examples(learn)
    goals = _goals(chosen)
    network, tokenizer = open_model(model, device=device, dtype=dtype)
    with progress_bars(quiet=json_) as progress:
        rows = compared(
            network,
            tokenizer,
            method_names(methods),
            examples,
            read_files(files, count),
            chosen.scorers,
            signs=[goal.sign for goal in goals.values()],
            settings=Settings(**settings, **kept),
            worst=chosen.worst,
            folder=out_folder / "methods",
            progress=progress,
            done=None if json_ else _tell,
        )
    facts = {"task": task, "model": model, "prompts": ", ".join(files), "examples": len(examples)}
    facts |= {**settings, **own, **environment()}
    write_report(out_folder, f"Methods on {Path(model).name}", rows, goals, facts)
    if json_:
        print_json([asdict(row) for row in rows])
    else:
        out.print(f"report: {escape(str(out_folder / 'comparison.md'))}", soft_wrap=True)


def _goals(chosen: Chosen) -> dict[str, Goal]:
    """What a comparison's tables are about: the direction, its figure, whether less is better."""
    from ..research.comparison import Goal

    if chosen.worst:
        return {"detox": Goal(1, chosen.style, True)}
    return {"positive": Goal(1, chosen.style, False), "negative": Goal(-1, chosen.style, True)}


def _tell(row: MethodRow) -> None:
    out.print(
        f"{escape(row.name)}: fitted in {row.seconds:.0f} s; writing takes ×{row.decode:.2f} the "
        "time of the base model"
    )
