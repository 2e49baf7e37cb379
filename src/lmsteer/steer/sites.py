"""Where a steer acts: which embeddings, and which positions."""

from __future__ import annotations

from typing import Any, Literal, get_args

from ..errors import InputError

Site = Literal["output", "input"]
SITES: tuple[Site, ...] = get_args(Site)
Reach = Literal["all", "prompt"]
REACHES: tuple[Reach, ...] = get_args(Reach)


def check_sites(site: Any, where: Any) -> None:
    """Raise InputError unless both are among those that there are."""
    if site not in SITES:
        raise InputError(f"site must be one of {SITES}, was: {site!r}")
    if not isinstance(where, str) or where not in REACHES:
        raise InputError(f"where must be one of {REACHES}, was: {where!r}")


def reach_text(where: Reach) -> str:
    """What is steered, in words."""
    return "the prompt alone" if where == "prompt" else "every position"
