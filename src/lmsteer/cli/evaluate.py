"""`lmsteer evaluate`: the paper's evaluation, of any steers, as a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..steer import labels, told_apart, unique_file_names
from .display import escape, out, print_json, progress_bars
from .evaluation import FILES, Group, measure_group, write_report
from .opening import open_model
from .options import (
    MODEL,
    SEED,
    TOP_P,
    BatchSize,
    Count,
    Device,
    Dtype,
    Force,
    Json,
    Mix,
    Model,
    Nucleus,
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
from .steers import crossed, read_mix, tell_prompts
from .tasks import read_task


def evaluate(
    out_folder: Out,
    steers: Mix = None,
    task: Task = "sentiment",
    model: Model = MODEL,
    fluency: Annotated[
        str | None,
        typer.Option(
            help="The model that perplexity is taken under.  [default: the same, unsteered]"
        ),
    ] = None,
    prompts: Prompts = None,
    count: Count = None,
    scorer: Scorers = None,
    samples: Samples = 25,
    tokens: Tokens = 20,
    top_p: TopP = TOP_P,
    nucleus: Nucleus = "steered",
    seed: Seed = SEED,
    batch_size: BatchSize = 128,
    device: Device = None,
    dtype: Dtype = None,
    force: Force = False,
    json_: Json = False,
) -> None:
    """Evaluate steers as the paper does: 25 samples of 20 tokens per prompt, top-p 0.9.

    Each file of --prompts is a set with a table of its own. An interrupted run goes on when the
    same command is given again. To set other methods beside steers: lmsteer compare.

    Example: lmsteer evaluate sentiment=-3,0,3 --count 5 --samples 5 --out report
    """
    chosen = read_task(task, prompts, scorer)
    network, tokenizer = open_model(model, device=device, dtype=dtype)
    judge = open_model(fluency, device=device) if fluency else (network, tokenizer)
    mixes = crossed(read_mix(steers or [], network))
    called = labels(s for mix in mixes for s in mix)
    tell_prompts(s for mix in mixes for s in mix)
    sampling = {
        "samples": samples,
        "max_new_tokens": tokens,
        "top_p": top_p,
        "nucleus": nucleus,
        "seed": seed,
        "batch_size": batch_size,
    }
    # All that the records on disk depend on.
    settings = {
        "model": model,
        "steers": [
            [(called[s], s.site, s.digest[:16], value) for s, value in mix.items()] for mix in mixes
        ],
        "count": count,
        "samples": samples,
        "tokens": tokens,
        "top_p": top_p,
        "nucleus": nucleus,
        "seed": seed,
    }
    sets = told_apart([Path(file.removeprefix("bundled:")).stem for file in chosen.files])
    places = unique_file_names(sets, taken=FILES)
    groups: dict[str, Group] = {}
    with progress_bars(quiet=json_) as progress:
        for file, group, place in zip(chosen.files, sets, places, strict=True):
            groups[group] = measure_group(
                (network, tokenizer),
                judge,
                mixes,
                read_files([file], count),
                chosen,
                folder=out_folder / place,
                settings={**settings, "prompts": file},
                sampling=sampling,
                force=force,
                progress=progress,
            )
    files = dict(zip(sets, chosen.files, strict=True))
    facts: dict[str, Any] = {
        "task": task,
        "model": model,
        "prompts": "; ".join(f"{group}: {file}" for group, file in files.items()),
        "perplexity under": fluency or "the same model, unsteered",
        "samples": f"{samples} per prompt, {tokens} tokens, top-p {top_p} of the {nucleus} "
        f"model, seed {seed}",
    }
    report = write_report(out_folder, f"{task}: {Path(model).name}", groups, facts, chosen.style)
    if json_:
        print_json(report, indent=1)
        return
    out.print(f"report: {escape(str(out_folder / 'report.md'))}", soft_wrap=True)
    for name, measured in groups.items():
        for label, row in measured.rows:
            out.print(
                f"{escape(f'{name:>10}')}  {escape(label)}: {escape(chosen.style)} "
                f"{row[chosen.style]}, perplexity {row['perplexity']}"
            )
