"""Steers by name: a folder, one that ships with the package, or a repository of the Hub."""

from __future__ import annotations

import os
from importlib import resources
from os import PathLike
from pathlib import Path

from torch import nn

from ..errors import MismatchError, NotFoundError
from ..model import canonical_name, check_fit
from ..steer import DOMAIN, Steer
from .facts import FACTS
from .hub import pull_steer
from .steers import read_steer


def shipped_steers(model: nn.Module | str | None = None) -> dict[str, list[Steer]]:
    """The steers that come with the package, by name.

    Args:
        model: A model, or the name of one (short names stand for the Hub's), for which the steers
            must have been made; None gives the steers of all models.
    """
    found: dict[str, list[Steer]] = {}
    root = Path(str(resources.files("lmsteer") / "assets" / "steers"))
    for facts in sorted(root.glob(f"*/*/{FACTS}")):
        steer = read_steer(facts.parent)
        if model is None or _is_made_for(steer, model):
            found.setdefault(steer.name, []).append(steer)
    return found


def _is_made_for(steer: Steer, model: nn.Module | str) -> bool:
    if isinstance(model, str):
        name = steer.fingerprint.model if steer.fingerprint is not None else ""
        return canonical_name(name) == canonical_name(model)
    try:
        check_fit(model, steer)
    except MismatchError:
        return False
    return True


def load_steer(name: str | PathLike[str], model: nn.Module | str) -> Steer:
    """Find a steer by name and check that it was made for this model.

    Args:
        name: A folder, else the name of a steer shipped for this model, else a Hub id
            (``user/name``). A name that ends in ``.domain`` means the domain part of the steer.
        model: The model that the steer will be attached to; or the name of one, where the steer
            alone is needed. A name saves loading the model, and chooses among the shipped steers;
            a folder and a repository of the Hub are then not checked against it.

    Raises:
        NotFoundError: There is no steer of that name.
        ArtefactError: The steer of that name cannot be read.
        MismatchError: The steer was made for another model.
    """
    name = str(name)
    if name.endswith(DOMAIN) and not os.path.exists(name):
        whole = load_steer(name.removesuffix(DOMAIN), model)
        if whole.domain is None:
            raise NotFoundError(f"{whole.name!r} was trained without a domain part")
        return whole.domain
    if os.path.isdir(name):
        steer = read_steer(name)
    else:
        shipped = shipped_steers(model)
        if name in shipped:
            return shipped[name][0]
        is_path = name.startswith((".", "/", "~")) or os.path.exists(name)
        if is_path or name.count("/") != 1:
            asked = f"the model {model!r}" if isinstance(model, str) else "this model"
            raise NotFoundError(
                f"no steer {name!r}: no folder of that name, and no steer of that name is shipped "
                f"for {asked}; shipped for it are: {', '.join(shipped) or 'none'}. Train one with "
                "lmsteer.train (lmsteer train)"
            )
        steer = pull_steer(name)
    if not isinstance(model, str):
        check_fit(model, steer)
    return steer
