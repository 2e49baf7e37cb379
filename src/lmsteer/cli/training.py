"""How `lmsteer train` trains: one steer or several, with self-training or without."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from ..errors import InputError
from ..steer import Steer, check_name, read_provenance, unique_file_names
from ..training import OPTIONS as TRAINING
from .display import err, escape, progress_bars


def folders_of(columns: list[str]) -> list[str]:
    """The folder of each label column's steer, which is named after the column.

    Raises:
        InputError: A column given twice, or one whose name a steer cannot have.
    """
    for column in columns:
        check_name(column, "the name of a label column, which names its steer,")
    if len(set(columns)) < len(columns):
        raise InputError(f"each label column is given once, were: {', '.join(map(repr, columns))}")
    return unique_file_names(columns)


def fit_steers(
    network: Any,
    tokenizer: Any,
    examples: list[Any],
    name: str,
    label: list[str],
    options: dict[str, Any],
    *,
    quiet: bool,
) -> list[Any]:
    """The steers of the label columns, in order.

    Raises:
        typer.Exit: The user interrupted the training.
    """
    from ..recipes import self_train as fit_both
    from ..recipes import train as fit
    from ..recipes import train_jointly
    from ..states import workers

    try:
        with progress_bars(quiet=quiet or workers().rank > 0) as progress:
            options = {**options, "progress": progress}
            if len(label) == 1:
                if "judge" in options:
                    return [fit_both(network, tokenizer, examples, name=name, **options)]
                return [fit(network, tokenizer, examples, name=name, **options)]
            return train_jointly(network, tokenizer, examples, label, **options)
    except KeyboardInterrupt:
        err.print("interrupted; the same command with --resume goes on")
        raise typer.Exit(130) from None


def for_self_training(options: Mapping[str, Any], judge: str | None, texts: int) -> dict[str, Any]:
    """The options of `self_train`, taken from those of `train`.

    Raises:
        InputError: An option that self-training cannot follow.
    """
    from ..metrics import load_scorer
    from ..recipes import OPTIONS

    for name, option in TRAINING.items():
        if name in OPTIONS or name == "folder":
            continue  # the folder is ours: self-training keeps nothing
        if options.get(name, option.default) != option.default:
            raise InputError(f"--self-train does not go with --{name.replace('_', '-')}")
    kept = {name: options[name] for name in (*OPTIONS, "calibrate") if name in options}
    return {**kept, "judge": load_scorer(judge) if judge else None, "texts": texts}


def tell_written(steer: Steer, folder: Path) -> None:
    """Say what lies where."""
    err.print(f"[bold]{escape(str(folder))}[/]: {escape(repr(steer))}")


def tell_next(folder: Path, model: str) -> None:
    """Say how to write with a steer that was just made."""
    command = ["lmsteer", "generate", f"{folder}=2", "--model", model]
    err.print(f"next: {escape(shlex.join(command))} --prompt 'My life is'", soft_wrap=True)


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
        err.print(f"[yellow]{data.skipped} texts hold no token to learn from and were left out[/]")
    few, many = sorted((data.positive, data.negative))
    if few and many > 3 * few and not told.balance:
        err.print(
            "[yellow]one class is much larger than the other; --balance counts both the same[/]"
        )
    if steer.calibration is not None:
        low, high = steer.calibration.safe
        err.print(f"strengths from {low:+.2f} to {high:+.2f} keep the text fluent")
    if held_out := told.held_out:
        err.print(
            f"held-out NLL {held_out.nll_base:.3f} -> {held_out.nll:.3f} nats per token "
            f"({held_out.tokens} tokens)"
        )
