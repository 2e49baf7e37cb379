"""`lmsteer list` and `lmsteer show`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ..model import BUNDLED_MODELS, KNOWN, whereabouts
from ..steer import Steer, strength_texts
from ..storage import FACTS, measured, read_steer, shipped_steers
from .calibrate import describe_calibration
from .display import escape, out, print_json
from .options import MODEL, Json, Model, Name
from .steers import read_name
from .training import describe


def facts_of(steer: Steer) -> dict[str, Any]:
    """What a steer is, as lists and pages tell it."""
    base = steer.fingerprint.model if steer.fingerprint is not None else None
    return {
        "name": steer.name,
        "site": steer.site,
        "acts_on": steer.where,
        "dim": steer.dim,
        "rank": steer.rank,
        "domain": steer.domain is not None,
        "base_model": base,
    }


def list_(
    folder: Annotated[Path, typer.Argument(help="The folder to look for steers in.")] = Path("."),
    json_: Json = False,
) -> None:
    """List the steers in the folders of a folder, those that come with the package, and the models.

    The models are those that have a short name. Each is in the package, on this machine, or told
    with the command that brings it.

    Example: lmsteer list
    """
    found = [
        (str(facts.parent), read_steer(facts.parent)) for facts in sorted(folder.glob(f"*/{FACTS}"))
    ]
    for name, steers in shipped_steers().items():
        found += [(f"{name} (shipped, {_short(facts_of(s)['base_model'])})", s) for s in steers]
    if json_:
        rows = [{"where": where, **facts_of(s)} for where, s in found]
        print_json({"steers": rows, "models": _models()})
        return
    table = Table("steer", "site", "acts on", "dim", "rank", "domain", "base model")
    for where, steer in found:
        facts = list(facts_of(steer).values())
        table.add_row(escape(where), *(escape(str(fact)) for fact in facts[1:]))
    none = f"no steers in {escape(str(folder))}; make one with: lmsteer train"
    out.print(table if found else none, soft_wrap=True)
    models = Table("model", "is", "licence", "where")
    for model in _models():
        where = "comes with lmsteer" if model["command"] is None else model["here"]
        models.add_row(model["name"], model["hub"], model["licence"], where or model["command"])
    out.print(models, soft_wrap=True)


def _short(model: str) -> str:
    """The short name of a model that has one."""
    return next((known.name for known in KNOWN.values() if known.hub == model), model)


def _models() -> list[dict[str, Any]]:
    """The models with a short name: what they are, and where this machine has them."""
    own = {"hub": None, "licence": "MIT", "here": "bundled", "command": None}
    return [
        *({"name": name, **own} for name in BUNDLED_MODELS),
        *(
            {
                "name": known.name,
                "hub": known.hub,
                "licence": known.licence,
                "here": whereabouts(known),
                "command": known.command,
            }
            for known in KNOWN.values()
        ),
    ]


def show(name: Name, model: Model = MODEL, json_: Json = False) -> None:
    """Show what a steer is, how it was made, and what each strength costs.

    The model is not loaded: --model says for which model a steer that comes with the package is
    taken.

    Example: lmsteer show detox
    """
    steer = read_name(name, model)
    if json_:
        print_json({**facts_of(steer), **measured(steer), "record": dict(steer.record)})
        return
    for key, value in facts_of(steer).items():
        out.print(f"{key:>10}  {escape(str(value))}")
    describe(steer)
    if steer.calibration is not None:
        describe_calibration(steer.calibration)
    if effect := steer.effect:
        texts = strength_texts([row.strength for row in effect.rows])
        rates = ", ".join(
            f"{text}: {row.rate:.0%}" for text, row in zip(texts, effect.rows, strict=True)
        )
        out.print(f"{escape(effect.style)}, {effect.texts} texts per strength: {rates}")
