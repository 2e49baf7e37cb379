"""`lmsteer generate`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from ..errors import InputError
from ..steer import mix_texts
from .display import escape, out, print_json, progress_bars
from .opening import open_model
from .options import (
    MODEL,
    SEED,
    TOP_P,
    BatchSize,
    Chat,
    Count,
    Device,
    Dtype,
    Json,
    Mix,
    Model,
    Nucleus,
    Prompts,
    Samples,
    Seed,
    Tokens,
    TopP,
    Where,
)
from .prompts import read_files
from .steers import crossed, read_mix, tell_prompts


def generate(
    steers: Mix = None,
    prompt: Annotated[
        list[str] | None, typer.Option(help="A prompt. May be given several times.")
    ] = None,
    prompts: Prompts = None,
    count: Count = None,
    model: Model = MODEL,
    samples: Samples = 1,
    tokens: Tokens = 40,
    top_p: TopP = TOP_P,
    nucleus: Nucleus = "steered",
    temperature: Annotated[
        float,
        typer.Option(help="How much chance decides: 1 samples, 0 takes the likeliest token."),
    ] = 1.0,
    seed: Seed = SEED,
    chat: Chat = False,
    where: Where = "trained",
    batch_size: BatchSize = 64,
    device: Device = None,
    dtype: Dtype = None,
    json_: Json = False,
) -> None:
    """Write text with steers at signed strengths; without steers, as the model itself writes.

    Example: lmsteer generate sentiment=-3,0,3 story=1 --prompt "My life is"
    """
    from ..generation import generate as write

    wanted = [*(prompt or []), *(read_files(prompts, count) if prompts else [])]
    if not wanted:
        raise InputError("give a prompt with --prompt TEXT, or a file of them with --prompts FILE")
    network, tokenizer = open_model(model, device=device, dtype=dtype)
    mappings = crossed(read_mix(steers or [], network))
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
        print_json([asdict(record) for record in records])
        return
    told = mix_texts([record.strengths for record in records])
    for record, texts in zip(records, told, strict=True):
        mix = ", ".join(f"{name}={text}" for name, text in texts.items())
        out.print(
            f"[bold cyan]{escape(mix or 'base')}[/]  [dim]{escape(record.prompt, lines=True)}[/]"
            f"{escape(record.text, lines=True)}",
            soft_wrap=True,
        )
