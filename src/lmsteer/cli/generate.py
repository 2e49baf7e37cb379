"""`lmsteer generate`."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from ..errors import InputError
from ..steer import mix_texts
from .display import escape, hush_transformers, out, print_json, progress_bars
from .strengths import crossed, read_mix, tell_prompts


def generate(
    prompt: Annotated[list[str] | None, typer.Option(help="may be given several times")] = None,
    prompts: Annotated[
        str | None, typer.Option(help="file of prompts: a line each, or JSONL; bundled:neutral")
    ] = None,
    steer: Annotated[
        list[str] | None,
        typer.Option(help="NAME=STRENGTH; NAME=-2,0,2 compares; several are mixed"),
    ] = None,
    model: Annotated[str, typer.Option(help="bundled, a local folder or a Hub id")] = "bundled",
    samples: Annotated[int, typer.Option(help="continuations of each prompt")] = 1,
    tokens: Annotated[int, typer.Option(help="longest continuation, in tokens")] = 40,
    top_p: Annotated[float, typer.Option(help="nucleus sampling")] = 0.9,
    nucleus: Annotated[
        str, typer.Option(help="whose likeliest tokens are kept: steered, or base (more fluent)")
    ] = "steered",
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token")] = 1.0,
    seed: Annotated[int, typer.Option(help="another seed, other samples")] = 0,
    chat: Annotated[bool, typer.Option(help="prompts are a user's turns")] = False,
    where: Annotated[
        str,
        typer.Option(
            help="what is steered: all, prompt or response; trained is what each steer was "
            "trained for"
        ),
    ] = "trained",
    batch_size: Annotated[int, typer.Option(help="rows computed at once")] = 64,
    device: Annotated[str | None, typer.Option(help="cuda, mps, cpu or auto")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16, float16 or auto")] = None,
    json_: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
) -> None:
    """Write text at signed strengths; 0 is the base model.

    Example: lmsteer generate --steer sentiment=-3,0,3 --prompt "My life is" --samples 2
    """
    from ..generation import generate as write
    from ..model import load_model
    from ..text import read_prompts

    wanted = list(prompt or []) + (read_prompts(prompts) if prompts else [])
    if not wanted:
        raise InputError("give a prompt with --prompt TEXT, or a file of them with --prompts FILE")
    hush_transformers()
    network, tokenizer = load_model(model, device=device, dtype=dtype)
    mappings = crossed(read_mix(steer or [], network))
    if where == "trained":
        tell_prompts(steer for mapping in mappings for steer in mapping)
    with progress_bars(quiet=json_) as progress:
        records = write(
            network,
            tokenizer,
            wanted,
            strengths=mappings,
            samples=samples,
            max_new_tokens=tokens,
            top_p=top_p,
            nucleus=nucleus,
            temperature=temperature,
            seed=seed,
            batch_size=batch_size,
            chat=chat,
            where=where,
            progress=progress,
        )
    if json_:
        for record in records:
            print_json(dataclasses.asdict(record))
        return
    told = mix_texts([record.strengths for record in records])
    for record, texts in zip(records, told, strict=True):
        mix = ", ".join(f"{name}={text}" for name, text in texts.items())
        out.print(
            f"[bold cyan]{escape(mix or 'base')}[/]  [dim]{escape(record.prompt, lines=True)}[/]"
            f"{escape(record.text, lines=True)}",
            soft_wrap=True,
        )
