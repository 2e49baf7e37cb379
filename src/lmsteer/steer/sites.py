"""Where a steer acts: which embeddings, and which positions."""

from __future__ import annotations

from typing import Any, Literal, Protocol, get_args, runtime_checkable

from ..errors import InputError, MismatchError
from .fingerprint import Fingerprint

Site = Literal["output", "input"]
SITES: tuple[Site, ...] = get_args(Site)
Reach = Literal["all", "prompt"]
REACHES: tuple[Reach, ...] = get_args(Reach)


@runtime_checkable
class Placed(Protocol):
    """A steer, as far as what it acts on goes."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def site(self) -> Site:
        """The embeddings that it acts on."""
        ...

    @property
    def dim(self) -> int:
        """The width of these embeddings."""
        ...

    @property
    def where(self) -> Reach:
        """The positions that it acts on."""
        ...

    @property
    def fingerprint(self) -> Fingerprint | None:
        """The table that it was learned on, if known."""
        ...


def check_sites(site: Any, where: Any) -> None:
    """Raise InputError unless both are among those that there are."""
    if site not in SITES:
        raise InputError(f"site must be one of {SITES}, was: {site!r}")
    if not isinstance(where, str) or where not in REACHES:
        raise InputError(f"where must be one of {REACHES}, was: {where!r}")


def reach_text(where: Reach) -> str:
    """What is steered, in words."""
    return "the prompt alone" if where == "prompt" else "every position"


def check_addable(one: Placed, other: Placed) -> None:
    """Raise MismatchError unless both act on the same rows of the same model."""
    if (one.site, one.dim) != (other.site, other.dim):
        raise MismatchError(
            f"only steers of the same site and dim can be added; {one.name!r} is "
            f"{one.site}/{one.dim}, {other.name!r} is {other.site}/{other.dim}"
        )
    if one.where != other.where:
        raise MismatchError(
            f"{one.name!r} acts on {reach_text(one.where)} and {other.name!r} on "
            f"{reach_text(other.where)}, so they cannot be one steer; attach them side by side"
        )
    mine, theirs = one.fingerprint, other.fingerprint
    if mine is not None and theirs is not None and not mine.matches(theirs):
        raise MismatchError(
            f"{one.name!r} was trained on {mine.model!r} and {other.name!r} on "
            f"{theirs.model!r}: carry one over with lmsteer.transfer first"
        )
