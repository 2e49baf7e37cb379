"""Steers by name: a folder, one that ships with the package, or a repository of the Hub."""

from __future__ import annotations

import os
from importlib import resources
from os import PathLike
from pathlib import Path

from torch import nn

from ..errors import MismatchError, NotFoundError
from ..model import check_fit
from ..steer import Steer
from .facts import FACTS
from .steers import read_steer


def shipped_steers(model: nn.Module | None = None) -> dict[str, list[Steer]]:
    """The steers that come with the package, by name; if `model` is given, those made for it."""
    found: dict[str, list[Steer]] = {}
    root = Path(str(resources.files("lmsteer") / "assets" / "steers"))
    for facts in sorted(root.glob(f"*/*/{FACTS}")):
        steer = read_steer(facts.parent)
        if model is not None:
            try:
                check_fit(model, steer)
            except MismatchError:
                continue
        found.setdefault(steer.name, []).append(steer)
    return found


def load_steer(name: str | PathLike[str], model: nn.Module) -> Steer:
    """Find a steer by name and check that it was made for this model.

    Args:
        name: A folder, else the name of a steer shipped for this model, else a Hub id
            (``user/name``). A name that ends in ``.domain`` means the domain part of the steer.
        model: The model that the steer will be attached to.

    Raises:
        NotFoundError: There is no steer of that name.
        ArtefactError: The steer of that name cannot be read.
        MismatchError: The steer was made for another model.
    """
    name = str(name)
    if name.endswith(".domain") and not os.path.exists(name):
        whole = load_steer(name.removesuffix(".domain"), model)
        if whole.domain is None:
            raise NotFoundError(f"{whole.name!r} was trained without a domain part")
        return whole.domain
    if os.path.isdir(name):
        steer = read_steer(name)
    else:
        shipped = shipped_steers(model)
        if name in shipped:
            return shipped[name][0]
        if name.count("/") != 1 or os.path.exists(name):
            raise NotFoundError(
                f"no steer {name!r}: no folder of that name, and shipped for this model are: "
                f"{', '.join(shipped) or 'none'}. Train one with lmsteer.train (lmsteer train)"
            )
        from .hub import pull_steer

        steer = pull_steer(name)
    check_fit(model, steer)
    return steer
