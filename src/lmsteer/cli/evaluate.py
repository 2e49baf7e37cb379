"""`lmsteer evaluate`: the paper's evaluation, of any steers, as a report."""

from __future__ import annotations

import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from ..steer import labels, told_apart, unique_file_names
from ..text import json_text
from .display import err, escape, hush_transformers, out, print_json, progress_bars
from .strengths import crossed, read_mix, tell_prompts

# Prompts, scorers, and whether the style is one to be rid of.
TASKS: dict[str, tuple[list[str], list[str], bool]] = {
    "sentiment": (["neutral", "negative", "positive"], ["sentiment", "vader"], False),
    "detox": (["neutral", "negative"], ["toxicity"], True),
    "custom": ([], [], False),
}
# What a folder of a report holds beside the records of each set of prompts.
FILES = ("report.md", "report.json", "tradeoff.png", "methods")


def evaluate(
    out_folder: Annotated[Path, typer.Option("--out", help="folder for records and report")],
    task: Annotated[str, typer.Option(help="sentiment, detox or custom")] = "sentiment",
    steer: Annotated[
        list[str] | None,
        typer.Option(help="NAME=STRENGTH; NAME=-2,0,2 compares; several are mixed"),
    ] = None,
    model: Annotated[str, typer.Option(help="bundled, a local folder or a Hub id")] = "bundled",
    fluency: Annotated[
        str | None, typer.Option(help="model for perplexity  [default: the same, unsteered]")
    ] = None,
    prompts: Annotated[
        list[str] | None, typer.Option(help="file of prompts or bundled:SET, instead of the task's")
    ] = None,
    count: Annotated[int | None, typer.Option(help="so many prompts a set; all by default")] = None,
    scorer: Annotated[list[str] | None, typer.Option(help="instead of the task's")] = None,
    methods: Annotated[
        str | None,
        typer.Option(help="compare methods: all, paper, or lm-steer,lora,... and names of steers"),
    ] = None,
    learn: Annotated[
        str | None, typer.Option(help="labelled texts that --methods learn from, as for train")
    ] = None,
    neutral: Annotated[
        Path | None, typer.Option(help="with --methods: texts whose perplexity shows what is kept")
    ] = None,
    sentences: Annotated[
        Path | None,
        typer.Option(help="with --methods: acceptable sentences and others (CoLA's .tsv, or .csv)"),
    ] = None,
    instruction: Annotated[
        list[str] | None,
        typer.Option(help="with --methods: what 'instruction' reads first, for 1, then for -1"),
    ] = None,
    slow_count: Annotated[int, typer.Option(help="prompts for PPLM, ~100 times as slow")] = 10,
    samples: Annotated[int, typer.Option(help="continuations of each prompt")] = 25,
    tokens: Annotated[int, typer.Option(help="length of each, in tokens")] = 20,
    top_p: Annotated[float, typer.Option(help="nucleus sampling")] = 0.9,
    nucleus: Annotated[
        str, typer.Option(help="whose likeliest tokens are kept: steered, or base (more fluent)")
    ] = "steered",
    seed: Annotated[int, typer.Option(help="another seed, other samples")] = 0,
    batch_size: Annotated[int, typer.Option(help="rows computed at once")] = 128,
    device: Annotated[str | None, typer.Option(help="cuda, mps, cpu or auto")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16, float16 or auto")] = None,
    force: Annotated[bool, typer.Option(help="begin anew in a folder of another run")] = False,
    json_: Annotated[bool, typer.Option("--json", help="print the measured rows as JSON")] = False,
) -> None:
    """Evaluate steers as the paper does: 25 samples of 20 tokens a prompt, top-p 0.9.

    An interrupted run goes on when the same command is given again. Example:
    lmsteer evaluate --task sentiment --steer sentiment=-3,0,3 --count 50 --out report

    With --methods, LM-Steer beside the methods that the paper compares with, all learned from the
    same texts and continuing the first set of prompts, each at several strengths. Example:
    lmsteer evaluate --methods lm-steer,lora,dexperts --learn reviews.jsonl --count 50 --out report
    """
    from ..generation import by_mix, generate
    from ..metrics import load_scorer, masked
    from ..model import load_model
    from ..research.evaluation import (
        check_scorers,
        environment,
        labels_of,
        markdown,
        measure,
        resumable,
    )
    from ..steer import StrengthWarning
    from ..storage import write_file
    from ..text import read_prompts

    if task not in TASKS:
        raise InputError(f"--task must be one of {', '.join(TASKS)}, was: {task!r}")
    own, wanted, worst = TASKS[task]
    files = prompts or [f"bundled:{name}" for name in own]
    names = scorer or wanted
    if not files or not names:
        raise InputError("--task custom needs --prompts FILE and --scorer NAME")
    scorers = {name: load_scorer(name) for name in names}
    check_scorers(scorers, worst=worst)
    hush_transformers()
    network, tokenizer = load_model(model, device=device, dtype=dtype)
    if methods:
        from .methods import compare_methods, read_instructions

        compare_methods(
            network,
            tokenizer,
            methods,
            scorers,
            learn=learn,
            prompts=read_prompts(files[0])[:count],
            given=(neutral, sentences),
            settings={
                "samples": samples,
                "tokens": tokens,
                "top_p": top_p,
                "seed": seed,
                "batch_size": batch_size,
                "slow_count": slow_count,
                "instructions": read_instructions(instruction),
            },
            worst=worst,
            folder=out_folder,
            facts={"task": task, "model": model, "prompts": files[0]},
            json_=json_,
        )
        return
    judge, judge_tokenizer = load_model(fluency, device=device) if fluency else (network, tokenizer)
    mixes = crossed(read_mix(steer or [], network))
    called = labels(s for mix in mixes for s in mix)
    told = labels_of([{called[s]: float(value) for s, value in mix.items()} for mix in mixes])
    tell_prompts(steer for mix in mixes for steer in mix)
    groups: dict[str, list[tuple[str, Any]]] = {}
    shown: list[Any] = []
    sets = told_apart([Path(file.removeprefix("bundled:")).stem for file in files])
    for file, group, place in zip(files, sets, unique_file_names(sets, taken=FILES), strict=True):
        settings = {
            "model": model,
            "steers": [
                [(called[s], s.site, s.digest[:16], value) for s, value in mix.items()]
                for mix in mixes
            ],
            "prompts": file,
            "count": count,
            "samples": samples,
            "tokens": tokens,
            "top_p": top_p,
            "nucleus": nucleus,
            "seed": seed,
        }
        with warnings.catch_warnings(), progress_bars(quiet=json_) as progress:
            warnings.simplefilter("ignore", StrengthWarning)
            records = resumable(
                out_folder / place,
                settings,
                read_prompts(file)[:count],
                lambda part: generate(
                    network,
                    tokenizer,
                    part,
                    strengths=mixes,
                    samples=samples,
                    max_new_tokens=tokens,
                    top_p=top_p,
                    nucleus=nucleus,
                    seed=seed,
                    batch_size=batch_size,
                ),
                records_a_prompt=len(mixes) * samples,
                force=force,
                progress=progress,
            )
            groups[group] = []
            for number, part in enumerate(by_mix(records, len(mixes)), start=1):
                row = measure(judge, judge_tokenizer, part, scorers, worst=worst)
                groups[group].append((told[number - 1], row))
                shown += part[:: max(1, len(part) // 3)][:3]
                if progress:
                    progress("measure", number, len(mixes))
    shown = [replace(record, text=masked(record.text)) for record in shown]
    style = f"{names[0]}.any" if worst else names[0]
    figure = _figure(out_folder, groups, style, f"{task} on {Path(model).name}")
    facts = {
        "task": task,
        "model": model,
        "prompts": "; ".join(f"{group}: {file}" for group, file in zip(sets, files, strict=True)),
        "perplexity under": fluency or "the same model, unsteered",
        "samples": f"{samples} a prompt, {tokens} tokens, top-p {top_p} of the {nucleus} "
        f"model, seed {seed}",
        **environment(),
    }
    title = f"{task}: {Path(model).name}"
    write_file(out_folder / "report.md", markdown(title, groups, shown, facts, figure=figure))
    rows = {
        group: [
            {"mix": number, "strengths": label, **{k: asdict(v) for k, v in row.items()}}
            for number, (label, row) in enumerate(part)
        ]
        for group, part in groups.items()
    }
    report = {"facts": facts, "rows": rows}
    write_file(out_folder / "report.json", json_text(report, indent=1))
    if json_:
        print_json(report, indent=1)
        return
    out.print(f"report: {escape(str(out_folder / 'report.md'))}", soft_wrap=True)
    for group, measured in groups.items():
        for label, row in measured:
            out.print(
                f"{escape(f'{group:>10}')}  {escape(label)}: {escape(style)} {row[style]}, "
                f"perplexity {row['perplexity']}"
            )


def _figure(folder: Path, groups: Any, style: str, title: str) -> str | None:
    """The trade-off drawn, by its name in the folder; None where matplotlib is not installed."""
    from ..figures import tradeoff_figure

    try:
        tradeoff_figure(folder / "tradeoff.png", groups, style, title)
    except ImportError as error:
        err.print(f"[yellow]{escape(str(error))}[/]")
        return None
    return "tradeoff.png"
