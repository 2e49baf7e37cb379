"""The one function behind which every solver stands."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from torch import nn

from ..errors import InputError, UnsupportedError
from ..examples import Encoded, Example, Weight, encode, split_held_out, summary
from ..head import text_config
from ..hidden import Progress, States, read_head, read_states
from ..steer import Site, Steer
from .cached import fit_cached
from .convex import fit_convex
from .finish import to_steer
from .objective import Map, mean_nll
from .paper import RECIPE, fit_paper

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ..head import Head

Solver = Literal["convex", "cached", "paper"]
SOLVERS: tuple[Solver, ...] = get_args(Solver)
_LONGEST = 1024


def train(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    *,
    name: str | None = None,
    rank: int | None = None,
    site: Site = "output",
    solver: Solver | str = "convex",
    seed: int = 0,
    domain: bool = True,
    weight: Weight | str = "token",
    balance: bool = False,
    held_out: float = 0.1,
    max_length: int | None = None,
    steps: int | None = None,
    calibrate: bool = True,
    progress: Progress | None = None,
) -> Steer:
    """Learn a steer from labelled text. The model stays frozen and is left as it came.

    Args:
        model: A causal language model of transformers.
        tokenizer: The model's own.
        examples: Texts with labels in [-1, 1]; two different labels at least.
        name: What to call the steer; "steer" by default.
        rank: Columns of P and Q to keep, 1 to dim, in both parts. By default, for each part, the
            fewest (of 4, 8, 16, ..., dim) that stay within 0.002 nats of the best of these on the
            held-out texts; all of them where nothing is held out, and for the other solvers.
        site: ``"output"``, the paper's LM-Steer. Training at ``"input"`` is not there yet.
        solver: ``"convex"``, second-order steps on cached states, the same steer from the same
            texts in any order; ``"cached"``, Adam on the same states; ``"paper"``, the official
            recipe.
        seed: Of ``"cached"`` and ``"paper"``; ``"convex"`` has none.
        domain: Learn the domain part too: what all the texts share, whatever their label.
        weight: ``"token"`` (each target token counts the same) or ``"text"`` (each text does).
        balance: Give both signs of the label the same total weight.
        held_out: Share of the texts to stop and to report on, in [0, 1).
        max_length: Longer texts are cut to so many tokens; by default the model's context, at
            most 1024 (256 for ``"paper"``).
        steps: At most so many optimiser steps; by default the solver's own number.
        calibrate: Measure afterwards what each strength costs (`lmsteer.calibrate`, two samples
            of each prompt), so that strengths such as ``"+auto"`` can be given.
        progress: Called as ``progress(stage, done, total)``.

    Returns:
        The steer. `Steer.record` says how it was made: the data's digest and counts, held-out
        NLL in nats a token before and after, seconds, and the course of training.

    Raises:
        InputError: No examples, only one label, an option out of range.
        UnsupportedError: A model this cannot be trained on.

    Source: Han et al. 2024, section 3.2; the official recipe is github.com/Glaciohound/LM-Steer.
    """
    if site != "output":
        raise UnsupportedError('only site="output" can be trained so far')
    if solver not in SOLVERS:
        raise InputError(f"solver must be one of {SOLVERS}, was: {solver!r}")
    # One order for the same texts, however they came: by content.
    examples = sorted(examples, key=lambda example: example.digest)
    _check_labels(examples)
    if max_length is None:
        longest = RECIPE.max_length if solver == "paper" else _LONGEST
        context = getattr(text_config(model), "max_position_embeddings", None)
        max_length = min(longest, context or longest)
    started = time.perf_counter()
    encoded = encode(tokenizer, examples, max_length=max_length, weight=weight, balance=balance)
    head = read_head(model)
    if rank is not None and not 1 <= rank <= head.weight.shape[1]:
        raise InputError(f"rank must be between 1 and {head.weight.shape[1]}, was: {rank}")
    kept, tested = split_held_out([examples[i] for i in encoded.source], held_out)
    data = _Data(model, head, encoded, kept, tested, progress, fast=solver != "paper")
    curvature = None
    if solver == "convex":
        learned, curvature, course = fit_convex(
            head,
            data.states(),
            data.held_out(),
            domain=domain,
            steps=steps,
            progress=progress,
            started=started,
        )
    elif solver == "cached":
        learned, course = fit_cached(
            head,
            data.states(),
            data.held_out(),
            domain=domain,
            steps=steps,
            seed=seed,
            progress=progress,
            started=started,
        )
    else:
        learned, course = fit_paper(
            model,
            head,
            encoded,
            kept,
            data.held_out(),
            domain=domain,
            steps=steps,
            seed=seed,
            progress=progress,
        )
    record: dict[str, Any] = {
        "solver": solver,
        "seed": seed,
        "weight": weight,
        "balance": balance,
        "data": {
            **summary(examples),
            "tokens": int(encoded.target_counts.sum()),
            "truncated": encoded.truncated,
            "skipped": encoded.skipped,
        },
        "fast": data.fast,
        "course": course,
    }
    states = data.held_out()
    steer = to_steer(model, head, learned, curvature, states, rank, name or "steer", record)
    if states is not None:
        shared = None if steer.domain is None else steer.domain.matrix().to(states.hidden)
        final = Map(steer.matrix().to(states.hidden), shared)
        record["held_out"] = {
            "texts": len(tested),
            "tokens": len(states),
            "nll_base": mean_nll(head, states, None),
            "nll": mean_nll(head, states, final),
        }
    record["seconds"] = round(time.perf_counter() - started, 3)
    steer = replace(steer, record=record)
    if not calibrate:
        return steer
    # A room above this one: training only hands its result on.
    from ..calibration import calibrate as calibrated

    return calibrated(model, tokenizer, steer, samples=2, progress=progress)  # type: ignore[arg-type]


def _check_labels(examples: Sequence[Example]) -> None:
    if not examples:
        raise InputError("no examples given; a steer is learned from at least two labelled texts")
    labels = {e.label for e in examples}
    if len(labels) == 1:
        raise InputError(
            f"all {len(examples)} examples have the label {labels.pop():g}: a steer learns what "
            "separates labels, so give texts of both kinds (say +1 and -1)"
        )


@dataclass(eq=False)
class _Data:
    """States of both sides of the split, each read at most once."""

    model: nn.Module
    head: Head
    encoded: Encoded
    kept: list[int]
    tested: list[int]
    progress: Progress | None
    fast: bool
    _all: States | None = None
    _held_out: States | None = None

    def states(self) -> States:
        """Rows to learn from; reads the held-out ones in the same pass."""
        if self._all is None:
            self._all = read_states(
                self.model, self.encoded, progress=self.progress, fast=self.fast
            )
        return self._all.select(self.kept)

    def held_out(self) -> States | None:
        """Rows held out, or None where nothing is."""
        if self.tested and self._held_out is None:
            if self._all is not None:
                self._held_out = self._all.select(self.tested)
            else:
                self._held_out = read_states(self.model, self.encoded.only(self.tested))
        return self._held_out
