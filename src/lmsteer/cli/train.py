"""`lmsteer train`."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from ..model import load_model
from ..steer import Steer, check_name, name_of_folder, read_provenance, unique_file_names
from ..storage import check_writable, measured, working
from ..text import read_examples
from .display import err, escape, hush_transformers, print_json, progress_bars


def train(
    data: Annotated[
        str, typer.Argument(help="JSONL, CSV or TSV file, - (stdin), hf:NAME, bundled:sentiment")
    ],
    out_folder: Annotated[Path, typer.Option("--out", help="folder to write the steer to")],
    model: Annotated[str, typer.Option(help="bundled, a local folder or a Hub id")] = "bundled",
    name: Annotated[
        str | None, typer.Option(help="name of the steer; the folder's by default")
    ] = None,
    text: Annotated[str, typer.Option(help="column of the text")] = "text",
    label: Annotated[
        list[str],
        typer.Option(
            help="column of the label; given again for more styles, learned together, each "
            "written to its own folder under --out"
        ),
    ] = ["label"],  # noqa: B006
    prompt_column: Annotated[str | None, typer.Option(help="column of the prompt")] = None,
    positive: Annotated[str | None, typer.Option(help="class that stands for +1")] = None,
    negative: Annotated[str | None, typer.Option(help="class that stands for -1")] = None,
    scale: Annotated[
        tuple[float, float] | None, typer.Option(help="lowest and highest grade, e.g. --scale 0 4")
    ] = None,
    format_: Annotated[str | None, typer.Option("--format", help="jsonl, csv or tsv")] = None,
    split: Annotated[str, typer.Option(help="split of a hf: data set")] = "train",
    solver: Annotated[
        str, typer.Option(help="convex, cached, or paper (the official recipe)")
    ] = "convex",
    site: Annotated[
        str, typer.Option(help="output, or input: how text is read (gradients through the model)")
    ] = "output",
    where: Annotated[
        str,
        typer.Option(
            help="at the input site: all, or prompt (the prompt column alone); the steer then "
            "acts on prompts alone wherever it is used"
        ),
    ] = "all",
    checkpointing: Annotated[
        bool, typer.Option(help="at the input site: less memory, a third more time")
    ] = False,
    rank: Annotated[
        int | None, typer.Option(help="columns to keep; as few as do, by default")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="at most so many optimiser steps")] = None,
    weight: Annotated[str, typer.Option(help="what counts the same: token or text")] = "token",
    balance: Annotated[bool, typer.Option(help="even out the classes")] = False,
    chat: Annotated[
        bool, typer.Option(help="prompts are a user's turns, texts the answers of a chat model")
    ] = False,
    domain: Annotated[bool, typer.Option(help="learn what all texts share, apart")] = True,
    calibrate: Annotated[bool, typer.Option(help="measure what each strength costs")] = True,
    seed: Annotated[int, typer.Option(help="of the solvers cached and paper")] = 0,
    held_out: Annotated[float, typer.Option(help="share of the texts to stop and report on")] = 0.1,
    memory: Annotated[
        float, typer.Option(help="GiB of hidden states held in memory where no file can be kept")
    ] = 4.0,
    self_train: Annotated[
        bool,
        typer.Option(
            "--self-train",
            help="learn also from what the model writes, labelled by a judge: a stronger style "
            "for the same fluency, in several times the time",
        ),
    ] = False,
    judge: Annotated[
        str | None,
        typer.Option(
            help="with --self-train: a scorer as sweep takes it  [default: n-grams of the data]"
        ),
    ] = None,
    own_texts: Annotated[
        int, typer.Option(help="with --self-train: how many the model writes")
    ] = 12_000,
    resume: Annotated[
        bool, typer.Option(help="go on with an interrupted training, kept inside OUT")
    ] = False,
    fast: Annotated[
        bool, typer.Option(help="bf16 where the hardware has it; --no-fast is float32 throughout")
    ] = True,
    device: Annotated[str | None, typer.Option(help="cuda, mps, cpu or auto")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16, float16 or auto")] = None,
    force: Annotated[bool, typer.Option(help="replace a steer that is already there")] = False,
    json_: Annotated[bool, typer.Option("--json", help="print the record as JSON")] = False,
) -> None:
    """Learn a steer from labelled text: a row a text, labels in -1..1.

    Example: lmsteer train reviews.csv --label stars --scale 1 5 --model gpt2 --out sentiment

    On several GPUs or machines: accelerate launch -m lmsteer.cli train ... (each process reads its
    share; the steer is the same). Interrupted by Ctrl-C or a kill, the same command with --resume
    goes on; at most 16 batches of texts are read again.
    """
    from ..states import joined

    if judge and not self_train:
        raise InputError("--judge goes with --self-train")
    if self_train and len(label) > 1:
        raise InputError(f"--self-train learns one style, got {len(label)} label columns")
    name = check_name(name or name_of_folder(out_folder))
    folders = [out_folder]
    if len(label) > 1:
        folders = [out_folder / column for column in _folders_of(label)]
    for folder in folders:
        check_writable(folder, force=force)
    with contextlib.ExitStack() as several:
        processes = several.enter_context(joined())
        examples = read_examples(
            data,
            text=text,
            label=label[0] if len(label) == 1 else label,
            prompt=prompt_column,
            positive=positive,
            negative=negative,
            scale=scale,
            format=format_,
            split=split,
        )
        hush_transformers()
        network, tokenizer = load_model(model, device=device, dtype=dtype)
        work = several.enter_context(working(out_folder, owner=processes.rank == 0))
        options: dict[str, Any] = {
            "rank": rank,
            "seed": seed,
            "fast": fast,
            "solver": solver,
            "domain": domain,
            "weight": weight,
            "balance": balance,
            "chat": chat,
            "held_out": held_out,
            "steps": steps,
            "memory": memory,
            "resume": resume,
            # The input site has no pass to keep: its trunk runs at every step.
            "folder": work if site == "output" else None,
            "site": site,
            "where": where,
            "checkpointing": checkpointing,
            # One process is enough to measure and to write.
            "calibrate": calibrate and processes.rank == 0,
        }
        if self_train:
            options = _for_self_training(options, judge, own_texts)
        steers = _fit(network, tokenizer, examples, name, label, options, json_)
        if processes.rank > 0:
            return
        for steer, folder in zip(steers, folders, strict=True):
            steer.save(folder, force=force)
    if json_:
        told = [
            {"out": str(folder), **steer.record, **measured(steer)}
            for steer, folder in zip(steers, folders, strict=True)
        ]
        print_json(told[0] if len(told) == 1 else told)
        return
    for steer, folder in zip(steers, folders, strict=True):
        describe(steer)
        err.print(f"[bold]{escape(str(folder))}[/]: {escape(repr(steer))}")
    command = ["lmsteer", "generate", "--model", model, "--steer", f"{folders[0]}=2"]
    err.print(f"next: {escape(shlex.join(command))} --prompt 'My life is'", soft_wrap=True)


def _folders_of(columns: list[str]) -> list[str]:
    """The folder of each label column's steer, which is named after the column.

    Raises:
        InputError: A column given twice, or one whose name a steer cannot have.
    """
    for column in columns:
        check_name(column, "the name of a label column, which names its steer,")
    if len(set(columns)) < len(columns):
        raise InputError(f"each label column is given once, were: {', '.join(map(repr, columns))}")
    return unique_file_names(columns)


def _fit(
    network: Any,
    tokenizer: Any,
    examples: list[Any],
    name: str,
    label: list[str],
    options: dict[str, Any],
    json_: bool,
) -> list[Any]:
    from ..recipes import self_train as fit_both
    from ..recipes import train as fit
    from ..recipes import train_jointly
    from ..states import workers

    try:
        with progress_bars(quiet=json_ or workers().rank > 0) as progress:
            options = {**options, "progress": progress}
            if len(label) == 1:
                if "judge" in options:
                    return [fit_both(network, tokenizer, examples, name=name, **options)]
                return [fit(network, tokenizer, examples, name=name, **options)]
            return train_jointly(network, tokenizer, examples, label, **options)
    except KeyboardInterrupt:
        err.print("interrupted; the same command with --resume goes on")
        raise typer.Exit(130) from None


def _for_self_training(options: Mapping[str, Any], judge: str | None, texts: int) -> dict[str, Any]:
    """The options of `self_train`.

    Raises:
        InputError: What it cannot do.
    """
    from ..metrics import load_scorer
    from ..recipes import OPTIONS

    plain = {"solver": "convex", "site": "output", "chat": False, "steps": None, "resume": False}
    plain |= {"where": "all", "checkpointing": False}
    for name, value in plain.items():
        if options[name] != value:
            raise InputError(f"--self-train does not go with --{name}")
    kept = {name: options[name] for name in (*OPTIONS, "seed", "calibrate") if name in options}
    return {**kept, "judge": load_scorer(judge) if judge else None, "texts": texts}


def describe(steer: Steer) -> None:
    """Say how a steer was made in a few lines, with what a user should know of the data."""
    told = read_provenance(steer.record)
    if (data := told.data) is None:
        return
    err.print(
        f"{data.texts} texts ({data.positive} positive, {data.negative} negative, "
        f"{data.neutral} neutral), {data.tokens} target tokens, {told.seconds:.1f} s"
    )
    if data.truncated:
        err.print(f"[yellow]{data.truncated} texts were cut to the model's context[/]")
    if data.skipped:
        err.print(f"[yellow]{data.skipped} texts have no token to learn from, and were left out[/]")
    few, many = sorted((data.positive, data.negative))
    if few and many > 3 * few and not told.balance:
        err.print("[yellow]the classes are uneven; --balance evens them out[/]")
    if steer.calibration is not None:
        low, high = steer.calibration.safe
        err.print(f"strengths from {low:+.2f} to {high:+.2f} keep the text fluent")
    if held_out := told.held_out:
        err.print(
            f"held-out NLL {held_out.nll_base:.3f} -> {held_out.nll:.3f} nats per token "
            f"({held_out.tokens} tokens)"
        )
