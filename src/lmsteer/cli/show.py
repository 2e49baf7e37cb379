"""`lmsteer list` and `lmsteer show`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ..errors import NotFoundError
from ..steer import Steer, strength_texts
from ..storage import FACTS, measured, read_steer, shipped_steers
from .calibrate import describe_calibration
from .display import escape, out, print_json
from .train import describe


def _facts(steer: Steer) -> dict[str, Any]:
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
    folder: Annotated[Path, typer.Argument(help="where to look for steers")] = Path("."),
    json_: Annotated[bool, typer.Option("--json", help="print as JSON")] = False,
) -> None:
    """Steers below a folder, and those that come with the package."""
    found = [
        (str(facts.parent), read_steer(facts.parent)) for facts in sorted(folder.glob(f"*/{FACTS}"))
    ]
    for name, steers in shipped_steers().items():
        found += [(f"{name} (shipped, {_facts(s)['base_model']})", s) for s in steers]
    if json_:
        print_json([{"where": where, **_facts(s)} for where, s in found])
        return
    table = Table("steer", "site", "acts on", "dim", "rank", "domain", "base model")
    for where, steer in found:
        facts = list(_facts(steer).values())
        table.add_row(escape(where), *(escape(str(fact)) for fact in facts[1:]))
    none = f"no steers in {escape(str(folder))}; make one with: lmsteer train"
    out.print(table if found else none, soft_wrap=True)


def show(
    name: Annotated[str, typer.Argument(help="folder of a steer, or one that is shipped")],
    model: Annotated[str, typer.Option(help="for which model it is shipped")] = "bundled",
    json_: Annotated[bool, typer.Option("--json", help="print as JSON")] = False,
) -> None:
    """What a steer is and how it was made."""
    steer = _shipped(name, model) if not Path(name).exists() else read_steer(name)
    if json_:
        print_json({**_facts(steer), **measured(steer), "record": dict(steer.record)})
        return
    for key, value in _facts(steer).items():
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


def _shipped(name: str, model: str) -> Steer:
    found = shipped_steers()
    for steer in found.get(name, []):
        if _facts(steer)["base_model"] == model:
            return steer
    raise NotFoundError(
        f"no folder {name!r}, and no steer of that name is shipped for the model {model!r}; "
        f"shipped are: {', '.join(found) or 'none'}"
    )
