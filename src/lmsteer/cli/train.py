"""`lmsteer train`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from ..steer import Steer, check_name, name_of_folder
from ..storage import check_writable, measured, working
from ..text import read_examples
from ..training import OPTIONS
from .declared import takes
from .display import print_json
from .opening import open_model
from .options import (
    MODEL,
    Calibrate,
    Chat,
    Data,
    Device,
    Dtype,
    Force,
    Format,
    Json,
    Label,
    Model,
    Negative,
    Out,
    Positive,
    PromptColumn,
    Rank,
    Resume,
    Ridge,
    Scale,
    Seed,
    Split,
    SteerName,
    TextColumn,
    Where,
)
from .training import (
    describe,
    fit_steers,
    folders_of,
    for_self_training,
    tell_next,
    tell_written,
)

# What a command line cannot give, and --resume, which here goes with --out.
NOT_HERE = ("progress", "folder", "start", "resume")


@takes(OPTIONS, without=NOT_HERE, rank=Rank, ridge=Ridge, seed=Seed, chat=Chat, where=Where)
def train(
    data: Data,
    out_folder: Out,
    model: Model = MODEL,
    name: SteerName = None,
    text_column: TextColumn = "text",
    label: Label = ["label"],  # noqa: B006
    prompt_column: PromptColumn = None,
    positive: Positive = None,
    negative: Negative = None,
    scale: Scale = None,
    format_: Format = None,
    split: Split = "train",
    calibrate: Calibrate = True,
    self_train: Annotated[
        bool,
        typer.Option(
            "--self-train",
            help="Learn also from what the model itself writes, labelled by a judge: a stronger "
            "style for the same fluency, in several times the time.",
        ),
    ] = False,
    judge: Annotated[
        str | None,
        typer.Option(
            help="With --self-train: what labels the model's own texts, any scorer that sweep "
            "takes.  [default: n-grams learned from the data]"
        ),
    ] = None,
    own_texts: Annotated[
        int, typer.Option(help="With --self-train: how many texts the model writes.")
    ] = 12_000,
    resume: Resume = False,
    device: Device = None,
    dtype: Dtype = None,
    force: Force = False,
    json_: Json = False,
    **options: Any,
) -> None:
    """Learn a steer from labelled texts: one text per row, with a label from -1 to 1.

    On several GPUs or machines, start it by accelerate launch -m lmsteer.cli train ...: each
    process reads its share, and the steer is the same. After Ctrl-C or a kill the same command
    with --resume goes on; at most 16 batches of texts are read again.

    Example: lmsteer train bundled:sentiment --out sentiment
    """
    from ..states import joined

    if judge and not self_train:
        raise InputError("--judge goes with --self-train")
    if self_train and len(label) > 1:
        raise InputError(f"--self-train learns one style, got {len(label)} label columns")
    name = check_name(name or name_of_folder(out_folder))
    folders = [out_folder]
    if len(label) > 1:
        folders = [out_folder / column for column in folders_of(label)]
    for folder in folders:
        check_writable(folder, force=force)
    with contextlib.ExitStack() as several:
        processes = several.enter_context(joined())
        examples = read_examples(
            data,
            text=text_column,
            label=label[0] if len(label) == 1 else label,
            prompt=prompt_column,
            positive=positive,
            negative=negative,
            scale=scale,
            format=format_,
            split=split,
        )
        network, tokenizer = open_model(model, device=device, dtype=dtype)
        work = several.enter_context(working(out_folder, owner=processes.rank == 0))
        options |= {
            "resume": resume,
            # The input site has no pass to keep: its trunk runs at every step.
            "folder": work if options["site"] == "output" else None,
            # One process is enough to measure and to write.
            "calibrate": calibrate and processes.rank == 0,
        }
        if self_train:
            options = for_self_training(options, judge, own_texts)
        steers = fit_steers(network, tokenizer, examples, name, label, options, quiet=json_)
        if processes.rank > 0:
            return
        for steer, folder in zip(steers, folders, strict=True):
            steer.save(folder, force=force)
    _report(steers, folders, model, json_=json_)


def _report(steers: list[Steer], folders: list[Path], model: str, *, json_: bool) -> None:
    if json_:
        told = [
            {"out": str(folder), **steer.record, **measured(steer)}
            for steer, folder in zip(steers, folders, strict=True)
        ]
        print_json(told[0] if len(told) == 1 else told)
        return
    for steer, folder in zip(steers, folders, strict=True):
        describe(steer)
        tell_written(steer, folder)
    tell_next(folders[0], model)
