"""`lmsteer train`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from .display import err, escape, hush_transformers, out, progress_bars


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
    label: Annotated[str, typer.Option(help="column of the label")] = "label",
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
    rank: Annotated[
        int | None, typer.Option(help="columns to keep; as few as do, by default")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="at most so many optimiser steps")] = None,
    weight: Annotated[str, typer.Option(help="what counts the same: token or text")] = "token",
    balance: Annotated[bool, typer.Option(help="even out the classes")] = False,
    domain: Annotated[bool, typer.Option(help="learn what all texts share, apart")] = True,
    calibrate: Annotated[bool, typer.Option(help="measure what each strength costs")] = True,
    seed: Annotated[int, typer.Option(help="of the solvers cached and paper")] = 0,
    device: Annotated[str | None, typer.Option(help="cuda, mps, cpu or auto")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16, float16 or auto")] = None,
    force: Annotated[bool, typer.Option(help="replace a steer that is already there")] = False,
    json_: Annotated[bool, typer.Option("--json", help="print the record as JSON")] = False,
) -> None:
    """Learn a steer from labelled text: a row a text, labels in -1..1.

    Example: lmsteer train reviews.csv --label stars --scale 1 5 --model gpt2 --out sentiment
    """
    from ..models import load_model
    from ..readers import read_examples
    from ..storage import check_writable
    from ..training import train as fit

    check_writable(out_folder, force=force)
    examples = read_examples(
        data,
        text=text,
        label=label,
        prompt=prompt_column,
        positive=positive,
        negative=negative,
        scale=scale,
        format=format_,
        split=split,
    )
    hush_transformers()
    network, tokenizer = load_model(model, device=device, dtype=dtype)
    with progress_bars(quiet=json_) as progress:
        steer = fit(
            network,
            tokenizer,
            examples,
            name=name or out_folder.name,
            rank=rank,
            seed=seed,
            solver=solver,
            domain=domain,
            weight=weight,
            balance=balance,
            steps=steps,
            calibrate=calibrate,
            progress=progress,
        )
    steer.save(out_folder, force=force)
    if json_:
        out.print_json(json.dumps({"out": str(out_folder), **steer.record}))
        return
    describe(steer.record)
    err.print(f"[bold]{escape(str(out_folder))}[/]: {escape(repr(steer))}")
    err.print(
        f"next: lmsteer generate --model {model} --steer {out_folder}=2 --prompt 'My life is'"
    )


def describe(record: Mapping[str, Any]) -> None:
    """The record of a training in a few lines, with what a user should know of the data."""
    facts = record
    data, held_out = facts["data"], facts.get("held_out")
    err.print(
        f"{data['texts']} texts ({data['positive']} positive, {data['negative']} negative, "
        f"{data['neutral']} neutral), {data['tokens']} target tokens, {facts['seconds']:.1f} s"
    )
    if data["truncated"]:
        err.print(f"[yellow]{data['truncated']} texts were cut to the model's context[/]")
    if data["skipped"]:
        err.print(
            f"[yellow]{data['skipped']} texts have no token to learn from, and were left out[/]"
        )
    few, many = sorted((data["positive"], data["negative"]))
    if few and many > 3 * few and not facts["balance"]:
        err.print("[yellow]the classes are uneven; --balance evens them out[/]")
    if "calibration" in facts:
        low, high = facts["calibration"]["safe"]
        err.print(f"strengths from {low:+.2f} to {high:+.2f} keep the text fluent")
    if held_out:
        err.print(
            f"held-out NLL {held_out['nll_base']:.3f} -> {held_out['nll']:.3f} nats a token "
            f"({held_out['tokens']} tokens)"
        )
