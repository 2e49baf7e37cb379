"""What a training is told, and which options go together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from torch import nn

from ..errors import InputError
from ..model import sample_digest
from ..states import Keep, Progress
from ..steer import REACHES, SITES, Reach, Site, Steer
from ..text import Example, Weight, digest_of

Solver = Literal["convex", "cached", "paper"]
SOLVERS: tuple[Solver, ...] = get_args(Solver)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `train` is told; see there."""

    rank: int | None = None
    site: Site | str = "output"
    solver: Solver | str = "convex"
    seed: int = 0
    fast: bool = True
    domain: bool = True
    weight: Weight | str = "token"
    balance: bool = False
    chat: bool = False
    held_out: float = 0.1
    salt: str = ""
    max_length: int | None = None
    steps: int | None = None
    ridge: float | None = None
    memory: float = 4.0
    folder: Path | None = None
    resume: bool = False
    progress: Progress | None = None
    start: Steer | None = None
    where: Reach | str = "all"
    checkpointing: bool = False

    def __post_init__(self) -> None:
        if self.site not in SITES:
            raise InputError(f"site must be one of {SITES}, was: {self.site!r}")
        if self.site == "input":
            self._check_inputs()
        elif self.where != "all" or self.checkpointing:
            raise InputError(
                'where="prompt" and checkpointing= go with site="input": at the output site the '
                "trunk is read once and has no gradient, and what the prompt's states score is "
                "the prompt itself"
            )
        if self.solver not in SOLVERS:
            raise InputError(f"solver must be one of {SOLVERS}, was: {self.solver!r}")
        if self.start is not None and self.solver != "convex":
            raise InputError(f'start= goes with solver="convex", was: {self.solver!r}')
        if self.ridge is not None and (self.solver != "convex" or not self.ridge > 0):
            raise InputError(f'ridge= is above 0 and goes with solver="convex", was: {self.ridge}')
        if self.resume and (self.folder is None or self.solver == "paper"):
            raise InputError(
                'resume= goes on with what folder= holds, for the solvers "convex" and "cached"; '
                f"here folder was {str(self.folder)!r}, solver {self.solver!r}"
            )

    def _check_inputs(self) -> None:
        if self.where not in REACHES:
            raise InputError(f'where must be "all" or "prompt", was: {self.where!r}')
        if self.solver != "convex" or self.folder is not None:
            raise InputError(
                'site="input" has a solver of its own (Adam through the trunk) and nothing to '
                "keep in a folder: leave solver=, folder= and resume= out"
            )

    def keep(self, model: nn.Module, examples: Sequence[Example], max_length: int) -> Keep:
        """Where the pass lies, and what it depends on."""
        told = "solver rank seed fast domain weight balance chat held_out salt steps ridge".split()
        key = {
            "model": sample_digest(model),
            "texts": digest_of(examples),
            **{name: getattr(self, name) for name in told},
            "start": None if self.start is None else self.start.digest,
            "max_length": max_length,
        }
        return Keep(self.memory, self.folder, self.resume, key)
