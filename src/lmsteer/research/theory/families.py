"""Random languages by seed, each with a change of style: pi, and pi' to be reached from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from .hmm import Array, Hmm

# Every chance is at least this share of an even one: no word or style is all but impossible, so
# that largest errors over all texts are not those of texts that nobody will ever see.
_EVEN = 0.1
_LEAST_SHIFT = 0.3  # in total variation: a change of style that is none shows nothing


@dataclass(frozen=True, eq=False)
class StyleShift:
    """A language and the chances of the styles it is to be steered to.

    Args:
        base: The language before the change, under pi.
        target: ``(styles,)``, the chances of the styles after the change, pi'.
    """

    base: Hmm
    target: Float64[Array, " styles"]

    @property
    def steered(self) -> Hmm:
        """The language under pi': the truth that a steer is measured against."""
        return self.base.with_styles(self.target)

    def styles_at(self, strength: float) -> Float64[Array, " styles"]:
        """``pi + strength * (pi' - pi)``; a distribution only while no entry falls below 0."""
        return np.asarray(self.base.styles + strength * (self.target - self.base.styles))


def random_shift(seed: int, *, styles: int = 2, inner: int = 3, vocab: int = 5) -> StyleShift:
    """Styles that differ in everything: where they begin, how they move, what they say."""
    draw = np.random.default_rng(seed)
    origin = target = distributions(draw, styles)
    while np.abs(target - origin).sum() < 2 * _LEAST_SHIFT:
        target = distributions(draw, styles)
    return StyleShift(
        Hmm(
            origin,
            distributions(draw, styles, inner),
            block_diagonal(distributions(draw, styles, inner, inner)),
            distributions(draw, styles * inner, vocab),
        ),
        target,
    )


def ring_shift(seed: int, *, words: int = 5) -> StyleShift:
    """Two styles with the same words equally often at every place, in another order.

    Words and inner states lie on a ring: each style steps around it by its own random law, and
    both say the same from a state, the word of that number most often. Turning the ring changes
    nothing, so all words are equally likely everywhere; and since the best static offset is unique
    up to a constant, it must not change either: it is constant and does nothing.
    """
    draw = np.random.default_rng(seed)
    turn = (np.arange(words)[None] - np.arange(words)[:, None]) % words
    # Laws that are far from even, or the styles would hardly differ.
    laws = draw.dirichlet(np.full(words, 0.3), size=2)
    laws = (1 - _EVEN) * laws + _EVEN / words
    spoken = np.full(words, 0.2 / (words - 1))
    spoken[0] = 0.8
    return StyleShift(
        Hmm(
            np.array([0.5, 0.5]),
            np.full((2, words), 1 / words),
            block_diagonal(laws[:, turn]),
            np.tile(spoken[turn], (2, 1)),
        ),
        np.array([0.9, 0.1]),
    )


@dataclass(frozen=True, eq=False)
class TwoShifts:
    """A language whose style is a pair of independent ones, each to be switched.

    Args:
        base: The language, ``pi = first (x) second``; style number ``first * styles of second +
            second``.
        first: ``(styles,)``, the chances of the first of the pair.
        second: ``(styles,)``, the chances of the second of the pair.
        targets: The chances of the first and of the second after the change.
    """

    base: Hmm
    first: Float64[Array, " first"]
    second: Float64[Array, " second"]
    targets: tuple[Float64[Array, " first"], Float64[Array, " second"]]

    def steered(self, first: float, second: float) -> Hmm:
        """The language at these strengths of the two changes."""
        ways = [
            origin + strength * (target - origin)
            for origin, target, strength in zip(
                (self.first, self.second), self.targets, (first, second), strict=True
            )
        ]
        return self.base.with_styles(np.outer(*ways).ravel())


def random_two_shifts(seed: int, *, inner: int = 2, vocab: int = 4) -> TwoShifts:
    """Two independent styles of two values each, whose four pairs differ in everything."""
    one, other = (random_shift(2 * seed + number) for number in range(2))
    first, second = one.base.styles, other.base.styles
    joint = random_shift(seed, styles=len(first) * len(second), inner=inner, vocab=vocab)
    base = joint.base.with_styles(np.outer(first, second).ravel())
    return TwoShifts(base, first, second, (one.target, other.target))


def distributions(draw: np.random.Generator, *shape: int) -> Array:
    """Random distributions along the last axis, each chance at least 0.1 of an even one."""
    rows = draw.dirichlet(np.ones(shape[-1]), size=shape[:-1])
    rows = (1 - _EVEN) * rows + _EVEN / shape[-1]
    return np.asarray(rows / rows.sum(-1, keepdims=True))


def block_diagonal(
    blocks: Float64[Array, "styles inner inner"],
) -> Float64[Array, "states states"]:
    """Transitions that never leave a style."""
    from scipy.linalg import block_diag

    return np.asarray(block_diag(*blocks))
