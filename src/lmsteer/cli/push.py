"""`lmsteer push`."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import InputError
from .display import err, escape, hush_transformers, print_json, progress_bars


def push(
    steer: Annotated[str, typer.Argument(help="a folder or a shipped steer")],
    to: Annotated[str, typer.Option("--to", help="repository on the Hub: user/name")],
    model: Annotated[
        str | None, typer.Option(help="the model it is for, to write samples for the card")
    ] = None,
    strength: Annotated[
        list[str] | None, typer.Option(help="of samples, several times  [default: -2, 0, 2]")
    ] = None,
    samples: Annotated[int, typer.Option(help="texts a strength")] = 2,
    private: Annotated[bool | None, typer.Option(help="of a repository made anew")] = None,
    revision: Annotated[str | None, typer.Option(help="branch to write to")] = None,
    json_: Annotated[bool, typer.Option("--json", help="print the address as JSON")] = False,
) -> None:
    """Put a steer on the Hugging Face Hub, with a model card; log in with hf auth login first.

    With --model the card shows samples, offensive words masked. Any command takes the result as
    user/name wherever it takes a steer.

    Example: lmsteer push sentiment --to user/sentiment-gpt2 --model gpt2
    """
    from ..generation import generate
    from ..metrics import masked
    from ..model import load_model
    from ..steer import resolve_strength
    from ..storage import load_steer, push_steer, read_steer
    from ..text import read_prompts

    if strength and model is None:
        raise InputError("samples need the model: give it with --model")
    shown: list[tuple[float, str]] = []
    if model is None:
        found = read_steer(steer)
    else:
        hush_transformers()
        network, tokenizer = load_model(model)
        found = load_steer(steer, network)
        wanted = [resolve_strength(found, s) for s in strength or ("-2", "0", "2")]
        with progress_bars(quiet=json_) as progress:
            records = generate(
                network,
                tokenizer,
                read_prompts("bundled:neutral")[:samples],
                strengths=[{found: s} for s in wanted],
                max_new_tokens=30,
                top_p=0.9,
                progress=progress,
            )
        shown = [(wanted[r.mix], masked(r.prompt + r.text)) for r in records]
    address = push_steer(
        found, to, private=private, revision=revision, samples=sorted(shown, key=lambda s: s[0])
    )
    if json_:
        print_json({"address": address})
        return
    err.print(f"[bold]{escape(address)}[/]", soft_wrap=True)
