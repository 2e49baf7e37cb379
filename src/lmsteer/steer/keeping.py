"""Where steers are saved: the values of this room know neither the disk nor the Hub."""

from __future__ import annotations

from os import PathLike
from typing import Protocol, TypeVar

S = TypeVar("S")


class Keeper(Protocol[S]):
    """What saves and loads steers: the room `storage`, once `lmsteer` is imported.

    A steer knows neither the disk nor the Hub, so `Steer.save` and its like ask `Steer.keeper`.
    """

    def save_steer(self, steer: S, path: str | PathLike[str], *, force: bool = False) -> None:
        """Write the steer as a folder."""
        ...

    def read_steer(self, path: str | PathLike[str]) -> S:
        """Read a folder that `save_steer` wrote."""
        ...

    def push_steer(self, steer: S, repo_id: str, *, private: bool | None = None) -> str:
        """Put the steer on the Hub and return the address."""
        ...

    def pull_steer(self, repo_id: str, *, revision: str | None = None) -> S:
        """Fetch a steer from the Hub."""
        ...
