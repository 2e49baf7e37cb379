"""Learning from samples: `lmsteer.train` on a small transformer, against exact probabilities.

A transformer learns a language under even styles from samples. Texts of two opposite styles,
labelled +1 and -1, then train a steer; at strength +1 and -1, with the domain part on (as it was in
training), the steered model is compared with the true languages, exactly, over all contexts. What
the best W and domain part *on this trunk* cannot reach is the floor; what a learned steer lacks
beyond it is the excess. By classical theory a maximum of likelihood among k free parameters has an
excess of about k / 2n nats per word after n words.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64

from ...recipes import train
from ...states import Progress
from ...steer import Steer
from ...text import Example
from .checks import Check, Part, TableRow, column, counted
from .contexts import Contexts
from .families import random_shift
from .fitting import fit_scores, log_softmax, mean_kl
from .hmm import Array, Hmm
from .trunk import Trunk, train_trunk

LENGTH = 6
DIM = 8
STYLES = {1.0: np.array([0.9, 0.1]), -1.0: np.array([0.1, 0.9])}
"""Chances of the two styles in texts of each label; the trunk learns them even."""
TRUNK_STEPS = 500
TEXTS = (250, 700, 2000, 5600, 16000)
REPEATS = 3
_STEPS = 2000
_SLOPE = -0.8
EXCESS, KL = "excess KL in nats per word, by number of texts", "KL from the truth, nats per word"
# Calibrating changes no map. "cached" has no ridge, and here nothing held out to stop by and steps
# enough to come close to the maximum of likelihood. The solver convex chooses its ridge by
# differences of 0.002 nats held out, which is coarse beside the excess measured here, and bounds it
# by a prior made for wide models: its bias outlasts the noise.
SOLVERS: dict[str, dict[str, Any]] = {
    "cached": {
        "solver": "cached",
        "held_out": 0.0,
        "steps": _STEPS,
        "fast": False,
        "calibrate": False,
    },
    "convex": {"calibrate": False, "solver": "convex"},
}


@dataclass(frozen=True, eq=False)
class Bench:
    """A trunk and the exact languages that steers on it are measured against.

    Args:
        trunk: The transformer.
        languages: The true language of each label.
        rows: ``(contexts, dim)``, what the head reads in each context.
        table: ``(tokens, dim)``, the head.
        truth: ``(labels * contexts, tokens)``, the next token under each label's language.
        weights: ``(labels * contexts,)``; sum to 1.
    """

    trunk: Trunk
    languages: dict[float, Hmm]
    rows: Float64[Array, "contexts dim"]
    table: Float64[Array, "tokens dim"]
    truth: Float64[Array, "both tokens"]
    weights: Float64[Array, " both"]

    @classmethod
    def of(cls, trunk: Trunk, languages: dict[float, Hmm], length: int) -> Bench:
        """Measure in all contexts of texts of `length` words."""
        contexts = Contexts.of(trunk.vocab, length)
        truth = np.concatenate([contexts.chances(true) for true in languages.values()])
        weights = np.concatenate([contexts.weights(true) for true in languages.values()])
        return cls(
            trunk,
            languages,
            trunk.read(contexts),
            trunk.head(),
            np.pad(truth, ((0, 0), (0, 1))),  # the token that begins a text never comes again
            weights / len(languages),
        )

    @property
    def inputs(self) -> Float64[Array, "both inputs"]:
        """``[y h, h]`` for each label y: what W and the domain part read."""
        blocks = [np.hstack([label * self.rows, self.rows]) for label in self.languages]
        return np.concatenate(blocks)

    @property
    def base(self) -> Float64[Array, "both tokens"]:
        """Scores without a steer."""
        return np.tile(self.rows @ self.table.T, (len(self.languages), 1))

    def kl(self, maps: Float64[Array, "inputs dim"]) -> float:
        """Mean KL from the truth of W over the domain part, at their labels, in nats per word."""
        scores = self.base + self.inputs @ maps @ self.table.T
        return mean_kl(self.weights, self.truth, log_softmax(scores))

    def kl_of(self, steer: Steer) -> float:
        """The same of a steer with its domain part at 1."""
        parts = [steer] if steer.domain is None else [steer, steer.domain]
        maps = [part.P.double() @ part.Q.double().T for part in parts]
        whole = np.zeros((2 * steer.dim, steer.dim))
        whole[: len(maps) * steer.dim] = np.concatenate([matrix.numpy() for matrix in maps])
        return self.kl(whole)

    def floor(self) -> float:
        """The least KL of any W and domain part on this trunk."""
        return fit_scores(self.base, self.inputs, self.table, self.truth, self.weights).kl

    def examples(self, texts: int, draw: np.random.Generator) -> list[Example]:
        """Labelled texts, as many of each label."""
        return [
            Example(text, label)
            for label, language in self.languages.items()
            for text in self.trunk.write(
                language.sample(texts // len(self.languages), LENGTH, draw)
            )
        ]


def bench(seed: int, *, steps: int = TRUNK_STEPS, progress: Progress | None = None) -> Bench:
    """A random language, a transformer trained on it, and the two languages to be steered to."""
    language = random_shift(seed).base
    even = language.with_styles(np.full(2, 0.5))
    trunk = train_trunk(even, LENGTH, dim=DIM, steps=steps, seed=seed, progress=progress)
    return Bench.of(trunk, {y: language.with_styles(pi) for y, pi in STYLES.items()}, LENGTH)


def slope(rows: list[TableRow]) -> float:
    """The power of the number of words with which the mean excess falls, by least squares."""
    counts = sorted({int(n) for n in column(rows, "words")})
    means = [column([r for r in rows if r["words"] == n], "excess").mean() for n in counts]
    return float(np.polyfit(np.log(counts), np.log(means), 1)[0])


def check_learning(
    seed: int = 0,
    *,
    texts: tuple[int, ...] = TEXTS,
    repeats: int = REPEATS,
    trunk_steps: int = TRUNK_STEPS,
    progress: Progress | None = None,
) -> Part:
    """The excess against the number of samples, without a ridge and by the solver convex.

    Args:
        seed: The seed of the language, the transformer and the samples.
        texts: The numbers of labelled texts, of `LENGTH` words each.
        repeats: The number of independent samples of each size.
        trunk_steps: The number of training steps of the transformer.
        progress: Called as ``progress(stage, done, total)``.
    """
    with _one_thread():
        measured = bench(seed, steps=trunk_steps, progress=progress)
        floor, nothing = measured.floor(), measured.kl(np.zeros((2 * DIM, DIM)))
        rows = _learned(measured, floor, seed, texts, repeats, progress)
    plain, ridged = ([row for row in rows if row["solver"] == solver] for solver in SOLVERS)
    single = [slope([row for row in plain if row["repeat"] == r]) for r in range(repeats)]
    parameters = free_parameters(measured)
    told: TableRow = {
        "unsteered": nothing,
        "floor": floor,
        "parameters": parameters,
        "slope": slope(plain),
        "slope_least_steep_repeat": max(single),
        "slope_of_convex": slope(ridged),
    }
    summary: list[TableRow] = [
        {
            "texts": count,
            "words": count * LENGTH,
            "excess": column([row for row in plain if row["texts"] == count], "excess").mean(),
            "floor": floor,
            "parameters / 2 words": parameters / (2 * count * LENGTH),
            "excess, convex": column(
                [row for row in ridged if row["texts"] == count], "excess"
            ).mean(),
        }
        for count in texts
    ]
    checks = [
        Check("slope of the excess against samples, log–log", slope(plain), "<", _SLOPE),
        Check("floor as a share of the unsteered KL", floor / nothing, "<", 0.1),
    ]
    return Part(
        "learning",
        "On a transformer trained on samples, a steer learned by lmsteer.train nears the best that "
        "its trunk allows as 1 / n in the number n of samples.",
        checks,
        summary,
        {KL: [told], EXCESS: rows},
    )


def _learned(
    measured: Bench,
    floor: float,
    seed: int,
    texts: tuple[int, ...],
    repeats: int,
    progress: Progress | None,
) -> list[TableRow]:
    """The excess of each steer that is trained: every solver and number of texts."""
    numbered = [(count, repeat) for count in texts for repeat in range(repeats)]
    rows: list[TableRow] = []
    for count, repeat in counted(numbered, "samples", progress):
        examples = measured.examples(count, np.random.default_rng((seed, count, repeat)))
        # The solver convex is shown beside: one sample of each size tells their course.
        for solver in SOLVERS if repeat == 0 else ("cached",):
            trunk, options = measured.trunk, SOLVERS[solver]
            steer = train(trunk.model, trunk.tokenizer, examples, **options)
            row: TableRow = {"solver": solver, "texts": count, "words": count * LENGTH}
            rows.append(row | {"repeat": repeat, "excess": measured.kl_of(steer) - floor})
    return rows


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """One thread of torch, and as many as before afterwards.

    At this size more threads wait for one another for most of the time, and on a busy machine
    nearly all of it; and sums are then made in the same order wherever this runs.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def free_parameters(measured: Bench) -> int:
    """Entries of W and the domain part that make a difference to the scores."""
    table = measured.table - measured.table.mean(0)
    inputs = np.sqrt(measured.weights)[:, None] * measured.inputs
    return int(np.linalg.matrix_rank(inputs) * np.linalg.matrix_rank(table))
