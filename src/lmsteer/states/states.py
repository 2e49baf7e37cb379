"""Hidden rows of target tokens, all of them or the part that this process holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .processes import ONE_PROCESS, Workers

BLOCK = 4096
"""The number of tokens that are handled at once."""


@dataclass(frozen=True, eq=False)
class States:
    """What the head reads for every target token of some texts, in the order of the texts.

    If there are several processes, each holds a part of the tokens; `len` counts them all.

    Args:
        hidden: ``(held, dim)``, the row from which each target is predicted: float32, or bf16 after
            a fast pass. It may be in a file, and on another device than the rest.
        targets: ``(held,)``, the targets' token ids.
        text: ``(held,)``, the number of the text that each token belongs to.
        labels: ``(held, styles)``, the strengths of each token's text, in [-1, 1].
        weights: ``(held,)``, the weight of each token in the loss; the mean is about 1.
        places: ``(tokens,)``, the row of each of all tokens here, -1 where another process holds
            it; None if this process holds them all.
        workers: The processes that hold all tokens together.
    """

    hidden: Float[Tensor, "held dim"]
    targets: Int[Tensor, " held"]
    text: Int[Tensor, " held"]
    labels: Float[Tensor, "held styles"]
    weights: Float[Tensor, " held"]
    places: Int[Tensor, " tokens"] | None = None
    workers: Workers = ONE_PROCESS

    def __len__(self) -> int:
        return len(self.targets if self.places is None else self.places)

    @property
    def device(self) -> torch.device:
        """The device on which sums over the states are computed."""
        return self.targets.device

    def values(self, *, domain: bool) -> Float[Tensor, "held parts"]:
        """The strength of each part of the map on each token: styles, then the domain at 1."""
        if not domain:
            return self.labels
        return torch.cat([self.labels, torch.ones_like(self.labels[:, :1])], dim=1)

    def to(self, device: torch.device | str) -> States:
        """All of them on another device."""
        return replace(
            self,
            hidden=self.hidden.to(device),
            targets=self.targets.to(device),
            text=self.text.to(device),
            labels=self.labels.to(device),
            weights=self.weights.to(device),
        )

    def take(self, numbers: Int[Tensor, " some"]) -> States:
        """The states of those of the given tokens that this process holds."""
        numbers = numbers.to(self.device)
        if self.places is not None:
            numbers = self.places[numbers]
            numbers = numbers[numbers >= 0]
        rows = self.hidden[numbers.to(self.hidden.device)].to(self.device)
        return States(
            rows,
            self.targets[numbers],
            self.text[numbers],
            self.labels[numbers],
            self.weights[numbers],
            workers=self.workers,
        )

    def spread(self, most: int) -> States:
        """At most `most` tokens, evenly spread over all."""
        if len(self) <= most:
            return self
        numbers = torch.linspace(0, len(self) - 1, most, dtype=torch.float64).long()
        taken = self.take(numbers)
        # These places are only counted: nobody takes tokens by number from a spread.
        return taken if self.places is None else replace(taken, places=numbers)

    def blocks(self) -> Iterator[States]:
        """The states that this process holds, `BLOCK` tokens at a time."""
        for start in range(0, len(self.targets), BLOCK):
            part = slice(start, start + BLOCK)
            yield States(
                self.hidden[part].to(self.device),
                self.targets[part],
                self.text[part],
                self.labels[part],
                self.weights[part],
            )

    def split(self, texts: int) -> tuple[States, States]:
        """The states of the first `texts` texts, and of the others; views, not copies."""
        held = int((self.text < texts).sum())
        total = held
        if self.places is not None:
            (summed,) = self.workers.add_numbers(held, device=self.device)
            total = int(summed)
        return self._part(slice(0, held), slice(0, total), 0), self._part(
            slice(held, None), slice(total, None), held
        )

    def _part(self, held: slice, numbers: slice, before: int) -> States:
        places = None
        if self.places is not None:
            places = self.places[numbers]
            places = torch.where(places >= 0, places - before, places)
        return States(
            self.hidden[held],
            self.targets[held],
            self.text[held],
            self.labels[held],
            self.weights[held],
            places,
            self.workers,
        )
