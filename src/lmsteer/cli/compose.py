"""`lmsteer compose`."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated

import typer

from ..steer import labels, name_of_folder
from .display import err, escape, hush_transformers


def compose(
    steers: Annotated[list[str], typer.Argument(help="NAME=STRENGTH, two or more")],
    out_folder: Annotated[Path, typer.Option("--out", help="folder to write the steer to")],
    how: Annotated[
        str, typer.Option(help="sum (what attaching them together does) or product (the theory's)")
    ] = "sum",
    model: Annotated[
        str | None, typer.Option(help="where names are of steers that come with a model")
    ] = None,
    force: Annotated[bool, typer.Option(help="replace a steer that is already there")] = False,
) -> None:
    """Make one steer of several at fixed strengths, and tell how they interfere.

    Example: lmsteer compose sentiment=2 polite=-1 --out kind-of-rude
    """
    from ..model import load_model
    from ..steer import compose as composed
    from ..steer import interference
    from ..storage import check_writable
    from .strengths import read_fixed

    check_writable(out_folder, force=force)
    network = None
    if model is not None:
        hush_transformers()
        network, _ = load_model(model, device="cpu")
    strengths = read_fixed(steers, network)
    steer = composed(strengths, how=how, name=name_of_folder(out_folder))
    steer.save(out_folder, force=force)
    names = labels(strengths)
    for one, other in itertools.combinations(strengths, 2):
        cosine = interference(one, other)
        # The sign that counts is of what is added, strengths included.
        together = cosine * (1 if strengths[one] * strengths[other] >= 0 else -1)
        verdict = "add up" if together > 0 else "oppose"
        verdict = "are unrelated" if abs(together) < 0.1 else verdict
        err.print(
            f"{escape(names[one])} and {escape(names[other])}: cosine of the maps {cosine:+.3f}; "
            f"at these strengths they {verdict}"
        )
    err.print(f"[bold]{escape(str(out_folder))}[/]: {escape(repr(steer))}")
