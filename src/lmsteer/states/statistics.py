"""`Statistics`: sums over labelled tokens, from which steers are solved without any token.

With the trunk frozen, all that one damped Newton step needs of a token is added up: products of its
row, its target's embedding and the labels of its text. So texts can be read on many machines and at
many times, added together, and taken away again, and a step of another ridge or rank costs no pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import InputError, MismatchError
from ..model import Head, pulled_to
from ..steer import Fingerprint
from .expectation import Expected
from .states import States


@dataclass(frozen=True, eq=False)
class Statistics:
    """Sums over target tokens, in float64 on the CPU.

    In what follows a token has the weight w, the row h that the head reads, the embedding e of its
    target (times the slope of the head's scale and soft-cap), and ``z = [1, y_1, y_2, ...]`` with
    the labels of its text, one per style.

    Args:
        texts: The number of texts.
        tokens: The number of tokens.
        weight: ``(z, z)``, the sum of ``w z z^T``.
        rows: ``(z, dim)``, the sum of ``w z h^T``.
        pull: ``(z, dim, dim)``, the sum of ``w z_k h e^T`` for each k.
        inner: ``(pairs, dim, dim)``, the sum of ``w z_j z_k h h^T`` for each pair j <= k, in the
            order (0, 0), (0, 1), ..., (1, 1), ...
        expected: Sums over those of the tokens that the head has read.
        sample: A few of the tokens with their rows, ordered by `States.text`, a number that the
            text's ids decide.
        sampled: One token in so many is in the sample; which, the text's ids decide.
        fingerprint: The model.
    """

    texts: int
    tokens: int
    weight: Float[Tensor, "z z"]
    rows: Float[Tensor, "z dim"]
    pull: Float[Tensor, "z dim dim"]
    inner: Float[Tensor, "pairs dim dim"]
    expected: Expected
    sample: States
    sampled: int
    fingerprint: Fingerprint

    @classmethod
    def of(
        cls,
        counts: tuple[int, int],
        sums: Sequence[Tensor],
        expected: Expected,
        sample: States,
        sampled: int,
        fingerprint: Fingerprint,
    ) -> Statistics:
        """The numbers of texts and tokens, and the sums in the order of `SUMS`."""
        weight, rows, pull, inner = sums
        return cls(
            *counts,
            weight=weight,
            rows=rows,
            pull=pull,
            inner=inner,
            expected=expected,
            sample=sample,
            sampled=sampled,
            fingerprint=fingerprint,
        )

    @property
    def styles(self) -> int:
        """The number of labels of each text."""
        return len(self.weight) - 1

    @property
    def dim(self) -> int:
        """The length of a row."""
        return self.rows.shape[1]

    def tensors(self) -> tuple[Tensor, ...]:
        """All sums but those of `expected`, in the order of `SUMS`."""
        return tuple(getattr(self, name) for name in SUMS)

    def __add__(self, other: Statistics) -> Statistics:
        """The statistics of the texts of both.

        Raises:
            MismatchError: They are of different models, or of labels that differ in number.
        """
        self._check(other)
        return self._with(
            torch.add,
            other,
            texts=self.texts + other.texts,
            tokens=self.tokens + other.tokens,
            sample=joined([self.sample, other.sample]),
        )

    def __sub__(self, other: Statistics) -> Statistics:
        """Without the texts of the other, which must be among those of this one.

        A text is taken away exactly, to rounding, where it was read in the same dtype. Nothing here
        knows which texts were added: take away what was.

        Raises:
            InputError: The other has more texts or tokens than this one.
            MismatchError: As for a sum, or they were sampled differently.
        """
        self._check(other)
        texts, tokens = self.texts - other.texts, self.tokens - other.tokens
        if texts < 0 or tokens < 0:
            raise InputError(
                f"cannot take {other.texts} texts ({other.tokens} tokens) away from {self.texts} "
                f"texts ({self.tokens} tokens): they are not among them"
            )
        if self.sampled != other.sampled:
            raise MismatchError(
                f"these statistics keep one token in {self.sampled}, those to be taken away one in "
                f"{other.sampled}: read the texts again with sampled={self.sampled}"
            )
        sample = _without(self.sample, other.sample)
        return self._with(torch.sub, other, texts=texts, tokens=tokens, sample=sample)

    def __mul__(self, factor: float) -> Statistics:
        """Each token with `factor` times its weight: how old texts are forgotten little by little.

        Raises:
            InputError: The factor is not a number of 0 or more.
        """
        if not 0 <= factor < float("inf"):
            raise InputError(f"a weight must be a number of 0 or more, was: {factor}")
        sample = replace(self.sample, weights=self.sample.weights * factor)
        return self._with(lambda total: total * factor, sample=sample)

    __rmul__ = __mul__

    def _check(self, other: Statistics) -> None:
        if self.rows.shape != other.rows.shape or not self.fingerprint.matches(other.fingerprint):
            raise MismatchError(
                "statistics go together if they are of one model and of as many labels: these are "
                f"of {self.fingerprint.model or 'a model'} (dim {self.dim}) with {self.styles} "
                f"labels, and of {other.fingerprint.model or 'a model'} (dim {other.dim}) with "
                f"{other.styles}"
            )

    def _with(
        self, function: Callable[..., Tensor], *others: Statistics, **fields: Any
    ) -> Statistics:
        """With each sum replaced by the function of it and of those of the others."""
        every = (self, *others)
        columns = zip(*(one.tensors() for one in every), strict=True)
        seen = zip(*(one.expected.tensors() for one in every), strict=True)
        sums: dict[str, Any] = dict(zip(SUMS, (function(*c) for c in columns), strict=True))
        return replace(self, **sums, expected=Expected(*(function(*c) for c in seen)), **fields)


SUMS = ("weight", "rows", "pull", "inner")
"""The fields of `Statistics` that are sums over all tokens."""


def joined(samples: Sequence[States]) -> States:
    """All tokens, in the order of their texts' numbers; those of a text stay as they stand."""
    fields: dict[str, Any] = {
        name: torch.cat([getattr(one, name) for one in samples])
        for name in ("hidden", "targets", "text", "labels", "weights")
    }
    whole = States(**fields)
    return whole.take(whole.text.argsort(stable=True))


def _without(one: States, other: States) -> States:
    """Copies of a text have equal tokens, so of each text as many tokens go as the other has."""
    texts, counts = other.text.unique(return_counts=True)
    place = torch.searchsorted(texts, one.text).clamp_max(len(texts) - 1)
    gone = torch.where(texts[place] == one.text, counts[place], 0) if len(texts) else one.text * 0
    first = torch.searchsorted(one.text, one.text)  # of the tokens of the same text
    number = torch.arange(len(one.text), device=one.text.device) - first
    return one.take((number >= gone).nonzero()[:, 0])


class Summing:
    """`Statistics`, while tokens are read."""

    def __init__(self, head: Head, styles: int) -> None:
        self._head = head
        z, dim = 1 + styles, head.weight.shape[1]
        pairs = z * (z + 1) // 2
        shapes = (z, z), (z, dim), (z, dim, dim), (pairs, dim, dim)
        self.sums = [torch.zeros(shape, dtype=torch.float64) for shape in shapes]

    def add(self, block: States) -> None:
        """Add tokens with unsteered rows."""
        hidden = block.hidden.float()
        wanted = pulled_to(self._head, hidden, block.targets)
        z = torch.cat([torch.ones_like(block.weights)[:, None], block.labels], dim=1)
        weighed = z * block.weights[:, None]
        first, second = torch.triu_indices(z.shape[1], z.shape[1])
        inputs = (weighed[:, :, None] * hidden[:, None]).flatten(1)
        pairs = ((weighed[:, first] * z[:, second])[:, :, None] * hidden[:, None]).flatten(1)
        found = (
            weighed.T @ z,
            weighed.T @ hidden,
            (inputs.T @ wanted).view_as(self.sums[2]),
            (pairs.T @ hidden).view_as(self.sums[3]),
        )
        for total, part in zip(self.sums, found, strict=True):
            total += part.cpu()
