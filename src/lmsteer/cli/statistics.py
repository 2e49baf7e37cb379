"""`lmsteer statistics`."""

from __future__ import annotations

import contextlib
from typing import Any

import typer

from ..storage import check_statistics_writable, save_statistics, working
from ..text import read_examples
from ..training import STATISTICS
from .declared import takes
from .display import err, escape, print_json, progress_bars
from .opening import open_model
from .options import (
    MODEL,
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
    Resume,
    Scale,
    Split,
    TextColumn,
)


@takes(STATISTICS, without=("progress", "folder", "resume"), chat=Chat)
def statistics(
    data: Data,
    out_folder: Out,
    model: Model = MODEL,
    text_column: TextColumn = "text",
    label: Label = ["label"],  # noqa: B006
    prompt_column: PromptColumn = None,
    positive: Positive = None,
    negative: Negative = None,
    scale: Scale = None,
    format_: Format = None,
    split: Split = "train",
    resume: Resume = False,
    device: Device = None,
    dtype: Dtype = None,
    force: Force = False,
    json_: Json = False,
    **options: Any,
) -> None:
    """Read labelled texts once and keep the sums that a steer is solved from, not the texts.

    Sums of several files, machines or days add up, and what was added can be taken away again:
    lmsteer solve does both in a second. The folder keeps the hidden states and the words of a few
    tokens (--sampled), so treat it like the texts themselves.

    Example: lmsteer statistics bundled:sentiment --out monday
    """
    from ..states import joined
    from ..training import read_statistics

    check_statistics_writable(out_folder, force=force)
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
        try:
            with progress_bars(quiet=json_ or processes.rank > 0) as progress:
                found = read_statistics(
                    network,
                    tokenizer,
                    examples,
                    folder=work,
                    resume=resume,
                    progress=progress,
                    **options,
                )
        except KeyboardInterrupt:
            err.print("interrupted; the same command with --resume goes on")
            raise typer.Exit(130) from None
        if processes.rank > 0:
            return
        save_statistics(found, out_folder, force=force)
    if json_:
        told = {"out": str(out_folder), "texts": found.texts, "tokens": found.tokens}
        print_json({**told, "dim": found.dim, "sampled": len(found.sample)})
        return
    err.print(
        f"[bold]{escape(str(out_folder))}[/]: {found.texts} texts, {found.tokens} tokens, dim "
        f"{found.dim}; next: lmsteer solve {escape(str(out_folder))} --model {escape(model)} "
        "--out mine",
        soft_wrap=True,
    )
