"""Sampling whose random numbers belong to a record, not to the batch it is computed in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..steer import Steer
from .drawing import draw


@dataclass(frozen=True, eq=False)
class Row:
    """One text to be written.

    Args:
        prompt: The number of its prompt.
        strengths: The strength of each steer.
        sample: The number of the sample among those of its prompt and strengths.
        mix: The number of its strengths among the mappings of the call.
    """

    prompt: int
    strengths: Mapping[Steer, float]
    sample: int
    mix: int = 0

    def beside(self, attached: Mapping[Steer, float]) -> Row:
        """The same row, with the strengths of the attached steers added to its own."""
        if not attached:
            return self
        total = dict(attached)
        for steer, strength in self.strengths.items():
            total[steer] = total.get(steer, 0.0) + strength
        return replace(self, strengths=total)


def uniforms(
    prompts: Sequence[str], batch: Sequence[Row], seed: int, length: int
) -> Float[Tensor, "rows length"]:
    """Uniform numbers in [0, 1); each row depends on its own record alone."""
    drawn = torch.empty(len(batch), length)
    for i, row in enumerate(batch):
        # By name, not by the steers' values, which differ a little from machine to machine: steers
        # of one name at equal strengths get the same random numbers.
        mix = sorted((steer.name, float(value)) for steer, value in row.strengths.items() if value)
        key = repr((seed, prompts[row.prompt], mix, row.sample))
        number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big")
        drawn[i] = torch.rand(length, generator=torch.Generator().manual_seed(number))
    return drawn


class Pick:
    """A logits processor that samples: it leaves one token possible, which greedy search takes.

    It inverts the cumulative distribution, which needs one random number per token, drawn
    beforehand (`drawing.draw`). Sampling by torch would make every row depend on the others of its
    batch. The scores of a large vocabulary are tens of megabytes, and on a CPU fresh memory for
    them costs more than the arithmetic: so the same two tables are written at every step.
    """

    def __init__(self, drawn: Float[Tensor, "rows length"], temperature: float, top_p: float):
        self.drawn, self.temperature, self.top_p = drawn, temperature, top_p
        self.base: Callable[[], Float[Tensor, "rows vocab"]] | None = None
        """The unsteered scores of this step, where the nucleus is to be theirs."""
        self.scored: Callable[[Int[Tensor, " rows"]], Float[Tensor, " rows"]] | None = None
        """The NLL of one token per row under the unsteered model, where that is to be noted."""
        self.step = 0
        self.told: Callable[[int], None] | None = None
        """What is told the number of tokens per row that are written."""
        self._ends, self._least = list[int](), 0
        self._chance: Tensor | None = None
        self._left: Tensor | None = None
        self._chosen: Tensor | None = None
        self._noted: list[tuple[Tensor, Tensor]] = []

    def withhold(self, ends: int | Sequence[int], least: int) -> None:
        """Draw none of the tokens that end a text before it has `least` tokens."""
        self._ends, self._least = [ends] if isinstance(ends, int) else list(ends), least

    def __call__(
        self, input_ids: Tensor, scores: Float[Tensor, "rows vocab"]
    ) -> Float[Tensor, "rows vocab"]:
        """The scores as they are at temperature 0; else 0 for the drawn token, -inf elsewhere.

        The returned table is written anew at the next call.
        """
        drawn = self.drawn[:, self.step]
        if self.step < self._least and self._ends:
            scores[:, self._ends] = float("-inf")  # a copy that `generate` made for this step
        self.step += 1
        if self.told:
            self.told(self.step)
        if self.temperature == 0:
            self._note(scores.argmax(-1))
            return scores
        chance = self._chances(scores)
        ranked = chance if self.base is None else self._unsteered(scores)
        chosen = draw(ranked, chance, drawn, self.top_p)
        self._note(chosen)
        return self._only(chosen, scores)

    def _note(self, chosen: Int[Tensor, " rows"]) -> None:
        if self.scored is not None:
            self._noted.append((chosen.cpu(), self.scored(chosen).cpu()))

    def losses(self) -> list[tuple[float, ...]]:
        """The noted NLL of the tokens of each row, up to the one that ends it."""
        tokens, losses = (torch.stack(column, 1) for column in zip(*self._noted, strict=True))
        inside = ~torch.isin(tokens, torch.tensor(self._ends, dtype=tokens.dtype)).cumsum(1).bool()
        pairs = zip(losses.tolist(), inside.sum(1).tolist(), strict=True)
        return [tuple(row[:length]) for row, length in pairs]

    def _chances(self, scores: Tensor) -> Float[Tensor, "rows vocab"]:
        """The probabilities, in the table of the step before."""
        table = self._chance
        if table is None or table.shape != scores.shape:
            table = self._chance = torch.empty_like(scores, dtype=torch.float32)
        if self.temperature != 1:
            scores = torch.div(scores, self.temperature, out=table)
        return torch.softmax(scores.float(), -1, out=table)

    def _only(self, chosen: Int[Tensor, " rows"], scores: Tensor) -> Tensor:
        """0 for the chosen token of each row, -inf elsewhere, in the table of the step before."""
        places, table = chosen[:, None], self._left
        if table is None or self._chosen is None or table.shape != scores.shape:
            table = self._left = torch.full_like(scores, float("-inf"))
        else:
            table.scatter_(-1, self._chosen, float("-inf"))
        self._chosen = places
        return table.scatter_(-1, places, 0.0)

    def _unsteered(self, scores: Float[Tensor, "rows vocab"]) -> Float[Tensor, "rows vocab"]:
        """The probabilities of the unsteered model, over the tokens that are allowed."""
        assert self.base is not None
        base = self.base().to(scores.device).float() / self.temperature
        return base.masked_fill(scores == float("-inf"), float("-inf")).softmax(-1)
