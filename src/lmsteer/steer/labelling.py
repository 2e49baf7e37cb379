"""What to call each of several steers where they are shown together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .steer import Steer
from .naming import DOMAIN, told_apart


def labels(steers: Iterable[Steer]) -> dict[Steer, str]:
    """What to call each of several steers where they are shown together: no two are called alike.

    A steer is called by its name or, where several have that name, by the name and a number in the
    order given. A domain part has the number of the steer that it belongs to, if that steer is
    among them.
    """
    order = list(dict.fromkeys(steers))
    wholes = dict(zip(order, told_apart([steer.name for steer in order]), strict=True))
    taken: set[str] = set()
    parts: dict[Steer, str] = {}
    for whole, label in wholes.items():
        if label == whole.name or whole.domain is None:
            continue
        name = whole.name + DOMAIN
        number = label[len(whole.name) :]
        taken |= {name, name + number}
        for part in order:
            if part.name == name and part not in parts and _is_same(part, whole.domain):
                parts[part] = name + number
                break
    rest = [steer for steer in order if steer not in parts]
    names = told_apart([steer.name for steer in rest], taken=taken)
    found = parts | dict(zip(rest, names, strict=True))
    return {steer: found[steer] for steer in order}


def _is_same(one: Steer, other: Steer) -> bool:
    """Whether two steers are the same one, which may have been read from disk twice."""
    return one is other or (one.site, one.digest) == (other.site, other.digest)
