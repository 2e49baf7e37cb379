"""`lmsteer compose`."""

from __future__ import annotations

import itertools
from typing import Annotated

import typer

from ..steer import labels, name_of_folder
from .display import err, escape, print_json
from .options import MODEL, Fixed, Force, Json, Model, Out
from .steers import read_fixed


def compose(
    steers: Fixed,
    out_folder: Out,
    how: Annotated[
        str,
        typer.Option(
            help="sum, what attaching the steers together does, or product, the theory's; see "
            "docs/control.md."
        ),
    ] = "sum",
    model: Model = MODEL,
    force: Force = False,
    json_: Json = False,
) -> None:
    """Make one steer of several at fixed strengths, and say how they interfere.

    The model is not loaded: --model says for which model a steer that comes with the package is
    taken.

    Example: lmsteer compose sentiment=2 politeness=-1 --out kind-of-rude
    """
    from ..steer import compose as composed
    from ..steer import interference
    from ..storage import check_writable

    check_writable(out_folder, force=force)
    strengths = read_fixed(steers, model)
    steer = composed(strengths, how=how, name=name_of_folder(out_folder))
    steer.save(out_folder, force=force)
    names = labels(strengths)
    pairs = [
        (one, other, interference(one, other)) for one, other in itertools.combinations(names, 2)
    ]
    if json_:
        told = [{"steers": [names[a], names[b]], "cosine": cosine} for a, b, cosine in pairs]
        recipe = {names[s]: value for s, value in strengths.items()}
        print_json(
            {
                "out": str(out_folder),
                "name": steer.name,
                "rank": steer.rank,
                "how": how,
                "strengths": recipe,
                "interference": told,
            }
        )
        return
    for one, other, cosine in pairs:
        # The sign that counts is of what is added, strengths included.
        together = cosine * (1 if strengths[one] * strengths[other] >= 0 else -1)
        verdict = "add up" if together > 0 else "oppose each other"
        verdict = "are unrelated" if abs(together) < 0.1 else verdict
        err.print(
            f"{escape(names[one])} and {escape(names[other])}: cosine of the maps {cosine:+.3f}; "
            f"at these strengths they {verdict}"
        )
    err.print(f"[bold]{escape(str(out_folder))}[/]: {escape(repr(steer))}")
