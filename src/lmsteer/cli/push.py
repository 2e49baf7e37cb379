"""`lmsteer push`."""

from __future__ import annotations

from typing import Annotated

import typer

from .display import err, escape, print_json, progress_bars
from .opening import open_model
from .options import MODEL, SEED, Device, Dtype, Json, Model, Samples, Seed, Tokens
from .prompts import read_files
from .steers import parse, read_mix


def push(
    steer: Annotated[
        str,
        typer.Argument(
            metavar="NAME[=STRENGTHS]",
            help="A steer: a folder, or one that comes with the model. With strengths, such as "
            "sentiment=-2,0,2, the card shows samples written at them.",
            show_default=False,
        ),
    ],
    repo: Annotated[
        str,
        typer.Option("--repo", help="The repository on the Hub: user/name.", show_default=False),
    ],
    model: Model = MODEL,
    samples: Samples = 2,
    tokens: Tokens = 30,
    seed: Seed = SEED,
    private: Annotated[
        bool | None,
        typer.Option(
            "--private/--public",
            help="Who sees a repository that is made anew.  [default: what your account says]",
        ),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="The branch to write to.  [default: the main branch]")
    ] = None,
    device: Device = None,
    dtype: Dtype = None,
    json_: Json = False,
) -> None:
    """Put a steer on the Hugging Face Hub, with a model card; log in first: hf auth login.

    Any command then takes it as user/name. In samples on the card offensive words are masked; the
    model is loaded for samples alone.

    Example: lmsteer push sentiment=-2,0,2 --repo user/sentiment-gpt2 --model gpt2
    """
    from ..generation import generate
    from ..metrics import masked
    from ..storage import load_steer, push_steer

    name, wanted = parse(steer)
    shown: list[tuple[float, str]] = []
    if not wanted:
        found = load_steer(name, model)
    else:
        network, tokenizer = open_model(model, device=device, dtype=dtype)
        ((found, strengths),) = read_mix([steer], network)
        with progress_bars(quiet=json_) as progress:
            records = generate(
                network,
                tokenizer,
                read_files(["bundled:neutral"], samples),
                strengths=[{found: s} for s in strengths],
                max_new_tokens=tokens,
                top_p=0.9,
                seed=seed,
                progress=progress,
            )
        shown = [(strengths[r.mix], masked(r.prompt + r.text)) for r in records]
    address = push_steer(
        found, repo, private=private, revision=revision, samples=sorted(shown, key=lambda s: s[0])
    )
    if json_:
        print_json({"address": address})
        return
    err.print(f"[bold]{escape(address)}[/]", soft_wrap=True)
