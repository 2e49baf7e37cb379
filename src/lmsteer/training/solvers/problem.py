"""What every solver is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ...model import Head
from ...states import Keep, States, Workers, read_states
from ...text import Encoded
from ..options import TrainOptions

JUDGED_ON = 16384
"""The number of held-out tokens, evenly spread, that decide when to stop and which ridge and rank
to take; the numbers in the record are those of all held-out tokens."""


@dataclass(frozen=True, eq=False)
class Problem:
    """A map to be learned: the model, the texts and the options.

    Args:
        model: The frozen model; a solver leaves it as it came.
        head: The model's head in float32.
        encoded: All texts.
        kept: The numbers of the texts to learn from.
        tested: The numbers of the texts that are held out; there may be none.
        options: All options of training.
        keep: Where the hidden states are held.
        processes: The processes that share the work.
        started: When training began, by `time.perf_counter`.
    """

    model: nn.Module
    head: Head
    encoded: Encoded
    kept: list[int]
    tested: list[int]
    options: TrainOptions
    keep: Keep
    processes: Workers
    started: float

    @property
    def parts(self) -> int:
        """The number of matrices: one per style, and the domain's if it is learned."""
        return int(self.encoded.labels.shape[1]) + self.options["domain"]

    def read(self) -> tuple[States, States | None]:
        """The states to learn from and the held-out ones (None if nothing is), in one pass."""
        states = read_states(
            self.model,
            self.encoded.only([*self.kept, *self.tested]),
            progress=self.options["progress"],
            fast=self.options["fast"],
            keep=self.keep,
            workers=self.processes,
        )
        return states.split(len(self.kept)) if self.tested else (states, None)

    def working_head(self) -> Head:
        """The head that does the work: bf16 where that is allowed, and fast here."""
        return self.head.fast() if self.options["fast"] else self.head


def choose_judges(held_out: States | None) -> States | None:
    """The held-out tokens that decisions are made on."""
    return None if held_out is None else held_out.spread(JUDGED_ON)


@dataclass(frozen=True, eq=False)
class Fitted:
    """What a solver has learned.

    Args:
        factors: P and Q of each style, then of the domain if it is learned.
        record: What the record is to say of how it was learned: ``solver``, ``course`` and what
            else is worth knowing.
        each: What the record of each style says besides.
        nll: The held-out NLL per token before and after, and the number of held-out tokens; None
            where nothing is held out.
    """

    factors: list[tuple[Tensor, Tensor]]
    record: dict[str, Any]
    each: list[dict[str, Any]]
    nll: tuple[float, float, int] | None


@dataclass(frozen=True)
class Solver:
    """One way to learn the map.

    Args:
        fit: Learns it.
        longest: The number of tokens that texts are cut to by default.
        alone: Why it runs in one process only, as the message begins; None: it runs in several.
    """

    fit: Callable[[Problem], Fitted]
    longest: int = 1024
    alone: str | None = None
