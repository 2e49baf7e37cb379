"""Under a softmax head: how near the best W comes, and when it is exact.

Real models score words by ``softmax(c . e_v)``, where a change of style is no longer linear in c.
The best W is then an approximation with a floor. It is exact, for any change of distribution
whatever, when the contexts' hidden rows are linearly independent (so the width is at least their
number) and the embeddings span the vocabulary, up to the constant that a softmax does not see.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from ...errors import InputError
from ...states import Progress
from .checks import Check, Part, TableRow, column, counted, medians
from .contexts import Contexts
from .exact import SEEDS
from .families import distributions, random_shift
from .fitting import fit_scores, log_softmax, mean_kl
from .hmm import Array, Hmm, all_texts

VOCAB = 4
LENGTH = 3  # contexts of 0 to 2 words: 1 + 4 + 16 = 21
AHEAD = 3
SHOWN = (1, 2, 3, 4, 6, 8, 12, 16, 20, 21)
_ZERO, _FLOOR = 1e-10, 1e-4
_NEGLIGIBLE = 1e-10  # of the largest singular value: what is left of a 0 by rounding
FLOORS, CONDITIONS = (
    "KL from π′ in nats per word, by width",
    "KL at full width, one condition broken",
)


def states_of_a_head(
    language: Hmm, contexts: Contexts, dim: int
) -> tuple[Float64[Array, "contexts dim"], Float64[Array, "vocab dim"]]:
    """Hidden rows and embeddings of a softmax model of this language, of a given width.

    The first directions are those from which the head reads the next word's log-probabilities
    (exactly, from width vocab - 1 on; the best of that rank below). The others, which the head
    does not read but a W can bring to it, are what tells most about the words after: the leading
    directions of the log-probabilities of the next `AHEAD` words.

    Args:
        language: The language to be modelled.
        contexts: All contexts of the language.
        dim: The width, at least 1; columns past the number of contexts are 0.
    """
    logs = np.log(contexts.chances(language))
    logs -= logs.mean(1, keepdims=True)
    left, scale, right_t = np.linalg.svd(logs, full_matrices=False)
    kept = scale > _NEGLIGIBLE * scale[0]
    left, scale, right_t = left[:, kept], scale[kept], right_t[kept]
    later = _later(language, contexts)
    others = np.linalg.svd(later - left @ (left.T @ later), full_matrices=False)[0]
    # Of what is left beside r directions of n, only n - r are directions of their own.
    basis = np.hstack([left, others[:, : len(left) - len(scale)]])
    wide = max(dim, len(scale))
    hidden, table = np.zeros((len(contexts), wide)), np.zeros((language.vocab, wide))
    hidden[:, : basis.shape[1]] = basis[:, :wide]
    table[:, : len(scale)] = right_t.T * scale
    return hidden[:, :dim], table[:, :dim]


def _later(language: Hmm, contexts: Contexts) -> Array:
    """Log-probability of each text of the next `AHEAD` words after each context."""
    rows = []
    for belief in contexts.beliefs(language):
        after = Hmm(np.ones(1), belief[None], language.transitions, language.emissions)
        rows.append(after.log_probability(all_texts(language.vocab, AHEAD)))
    logs = np.stack(rows)
    return np.asarray(logs - logs.mean(1, keepdims=True))


def exact_map(
    hidden: Float64[Array, "contexts dim"],
    table: Float64[Array, "vocab dim"],
    truth: Float64[Array, "contexts vocab"],
) -> Float64[Array, "dim dim"]:
    """A W that gives every context the distribution wanted of it, in closed form.

    ``I + W = C^+ L (E^T)^+`` with C the hidden rows, E the embeddings and L the wanted
    log-probabilities, E and L centred over the vocabulary.

    Args:
        hidden: C, whose rows are linearly independent.
        table: E, which spans the vocabulary up to a constant.
        truth: Any positive distributions, one per context.

    Raises:
        InputError: A condition does not hold; the message says which.
    """
    rank = _rank(hidden)
    if rank < len(hidden):
        raise InputError(
            f"the {len(hidden)} contexts' hidden rows must be linearly independent, their rank is "
            f"{rank} at width {hidden.shape[1]}"
        )
    centred = table - table.mean(0)
    spanned = _rank(centred)
    if spanned < len(table) - 1:
        raise InputError(
            f"the embeddings must span the vocabulary up to a constant, {len(table) - 1} "
            f"directions; they span {spanned}"
        )
    logs = np.log(truth)
    logs -= logs.mean(1, keepdims=True)
    whole = np.linalg.pinv(hidden) @ logs @ np.linalg.pinv(centred.T)
    return np.asarray(whole - np.eye(len(whole)))


def _rank(rows: Array) -> int:
    scale = np.linalg.svd(rows, compute_uv=False)
    return int((scale > _NEGLIGIBLE * scale[0]).sum())


def check_softmax(seed: int = 0, *, seeds: int = SEEDS, progress: Progress | None = None) -> Part:
    """The floor against the width, and the three conditions of the exact case.

    Args:
        seed: The seed of the first language; the next languages have the next seeds.
        seeds: The number of languages.
        progress: Called as ``progress("softmax", done, total)``.
    """
    numbers = range(seed, seed + seeds)
    floors = [row for number in counted(numbers, "softmax", progress) for row in _floors(number)]
    conditions = [_conditions(number) for number in numbers]
    most = column(floors, "dim").max()
    full = [row for row in floors if row["dim"] == most]
    checks = [
        Check("π′ at full width, fitted, largest KL", column(full, "map").max(), "<", _ZERO),
        Check(
            "any distributions, fitted, largest KL", column(conditions, "fitted").max(), "<", _ZERO
        ),
        Check(
            "any distributions, closed form, largest KL",
            column(conditions, "closed_form").max(),
            "<",
            _ZERO,
        ),
        Check("one width too few, smallest KL", column(conditions, "narrow").min(), ">", _FLOOR),
        Check(
            "a context that depends on others, smallest KL",
            column(conditions, "dependent").min(),
            ">",
            _FLOOR,
        ),
        Check(
            "embeddings that do not span, smallest KL",
            column(conditions, "unspanned").min(),
            ">",
            _FLOOR,
        ),
        Check(
            "these three refused by the closed form", column(conditions, "refused").min(), ">", 3
        ),
    ]
    return Part(
        "softmax",
        "Under a softmax head the best W has a floor that falls with the width d. It is zero, for "
        "any distributions wanted, when contexts are linearly independent (so d is at least their "
        "number) and the embeddings span the vocabulary.",
        checks,
        [
            row
            for row in medians(floors, "dim", ("unsteered", "offset", "map"))
            if row["dim"] in SHOWN
        ],
        {FLOORS: floors, CONDITIONS: conditions},
    )


def _floors(seed: int) -> list[TableRow]:
    shift = random_shift(seed, vocab=VOCAB)
    contexts = Contexts.of(VOCAB, LENGTH)
    truth, weights = contexts.chances(shift.steered), contexts.weights(shift.steered)
    ones, eye = np.ones((len(contexts), 1)), np.eye(VOCAB)
    rows: list[TableRow] = []
    for dim in range(1, len(contexts) + 1):
        hidden, table = states_of_a_head(shift.base, contexts, dim)
        base = hidden @ table.T
        rows.append(
            {
                "seed": seed,
                "dim": dim,
                "unsteered": mean_kl(weights, truth, log_softmax(base)),
                "offset": fit_scores(base, ones, eye, truth, weights).kl,
                "map": fit_scores(base, hidden, table, truth, weights).kl,
            }
        )
    return rows


def _conditions(seed: int) -> TableRow:
    """Arbitrary distributions wanted of contexts that all count the same."""
    draw = np.random.default_rng(seed)
    contexts = Contexts.of(VOCAB, LENGTH)
    count = len(contexts)
    hidden, table = states_of_a_head(random_shift(seed, vocab=VOCAB).base, contexts, count)
    truth, weights = distributions(draw, count, VOCAB), np.full(count, 1 / count)
    dependent = hidden.copy()
    dependent[-1] = hidden[0] + hidden[1]
    direction = np.linalg.svd(table - table.mean(0))[2][0]
    unspanned = table - np.outer(table @ direction, direction)
    broken = {
        "narrow": (hidden[:, :-1], table[:, :-1]),
        "dependent": (dependent, table),
        "unspanned": (hidden, unspanned),
    }
    W = exact_map(hidden, table, truth)
    return {
        "seed": seed,
        "fitted": fit_scores(hidden @ table.T, hidden, table, truth, weights).kl,
        "closed_form": mean_kl(weights, truth, log_softmax((hidden + hidden @ W) @ table.T)),
        **{
            name: fit_scores(rows @ words.T, rows, words, truth, weights).kl
            for name, (rows, words) in broken.items()
        },
        "refused": sum(_refuses(rows, words, truth) for rows, words in broken.values()),
    }


def _refuses(hidden: Array, table: Array, truth: Array) -> bool:
    try:
        exact_map(hidden, table, truth)
    except InputError:
        return True
    return False
