"""From labelled text to steers: the steps that every solver shares, in order."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import nn

from ..attachment import check_fit
from ..cache import Keep
from ..encoding import Encoded, Weight, as_chat, encode
from ..errors import InputError, UnsupportedError
from ..examples import Example, digest_of, split_held_out, summary
from ..head import decoder_start, sample_digest, text_config
from ..hidden import Progress, read_head, read_states
from ..states import States
from ..steer import Site, Steer
from ..workers import Workers, workers
from .cached import fit_cached
from .convex import fit_convex
from .curvature import Curvature
from .finish import to_steers
from .objective import Map, mean_nll
from .paper import RECIPE, fit_paper

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Solver = Literal["convex", "cached", "paper"]
SOLVERS: tuple[Solver, ...] = get_args(Solver)
JUDGED_ON = 16384
"""Held-out tokens, evenly spread, that stopping, ridge and rank are judged on; the record's
figures are on all of them."""
_LONGEST = 1024


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `train` is told; see there."""

    rank: int | None = None
    site: Site = "output"
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
    memory: float = 4.0
    folder: Path | None = None
    resume: bool = False
    progress: Progress | None = None
    start: Steer | None = None

    def __post_init__(self) -> None:
        if self.site != "output":
            raise UnsupportedError('only site="output" can be trained so far')
        if self.solver not in SOLVERS:
            raise InputError(f"solver must be one of {SOLVERS}, was: {self.solver!r}")
        if self.start is not None and self.solver != "convex":
            raise InputError(f'start= goes with solver="convex", was: {self.solver!r}')
        if self.resume and (self.folder is None or self.solver == "paper"):
            raise InputError(
                'resume= goes on with what folder= holds, for the solvers "convex" and "cached"; '
                f"here folder was {str(self.folder)!r}, solver {self.solver!r}"
            )

    def keep(self, model: nn.Module, examples: Sequence[Example], max_length: int) -> Keep:
        """Where the pass lies, and what it depends on."""
        told = "solver rank seed fast domain weight balance chat held_out salt steps".split()
        key = {
            "model": sample_digest(model),
            "texts": digest_of(examples),
            **{name: getattr(self, name) for name in told},
            "start": None if self.start is None else self.start.digest,
            "max_length": max_length,
        }
        return Keep(self.memory, self.folder, self.resume, key)


def learn(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    names: Sequence[str],
    options: Options,
) -> list[Steer]:
    """Read the texts once, fit the map, cut its rank, and write down how it went."""
    processes = workers()
    if options.solver == "paper" and processes.size > 1:
        raise UnsupportedError(
            'solver="paper" runs in one process; "convex" and "cached" in several'
        )
    # One order for the same texts, however they came: by content.
    examples = sorted(examples, key=lambda example: example.digest)
    _check_labels(examples, names)
    started = time.perf_counter()
    max_length = options.max_length or _longest(model, options)
    read = examples
    if options.chat:
        prompts = as_chat(tokenizer, [e.prompt for e in examples])
        read = [replace(e, prompt=p) for e, p in zip(examples, prompts, strict=True)]
    encoded = encode(
        tokenizer,
        read,
        max_length=max_length,
        weight=options.weight,
        balance=options.balance,
        decoder_start=decoder_start(model),
    )
    head = read_head(model)
    dim = head.weight.shape[1]
    if options.rank is not None and not 1 <= options.rank <= dim:
        raise InputError(f"rank must be between 1 and {dim}, was: {options.rank}")
    if options.start is not None:
        _check_start(model, options.start, names)
    keep = options.keep(model, examples, max_length)
    kept, tested = split_held_out(
        [examples[i] for i in encoded.source], options.held_out, salt=options.salt
    )
    fit: dict[str, Any] = {"domain": options.domain, "steps": options.steps}
    fit["progress"] = options.progress
    curvature: Curvature | None = None
    fast = options.fast and options.solver != "paper"
    work = head.fast() if fast else head
    if options.solver == "paper":
        judges = read_states(model, encoded.only(tested)) if tested else None
        few = _few(judges)
        learned, course = fit_paper(model, head, encoded, kept, few, seed=options.seed, **fit)
    else:
        states, judges = _read(model, encoded, kept, tested, options, keep, processes)
        few = _few(judges)
        if options.solver == "convex":
            fit["start"] = _start_map(options, states)
            learned, curvature, course = fit_convex(work, states, few, started=started, **fit)
        else:
            seed = options.seed
            learned, course = fit_cached(work, states, few, started=started, seed=seed, **fit)
    record: dict[str, Any] = {
        "solver": options.solver,
        "seed": options.seed,
        "weight": options.weight,
        "balance": options.balance,
        "chat": options.chat,
        "fast": fast,
        "processes": processes.size,
        "course": course,
    }
    steers, final = to_steers(model, work, learned, curvature, few, options.rank, names, record)
    if judges is not None:
        record["held_out"] = {
            "texts": len(tested),
            "tokens": len(judges),
            "nll_base": mean_nll(head, judges, None),
            "nll": mean_nll(head, judges, final),
        }
    record["seconds"] = round(time.perf_counter() - started, 3)
    cut = {"truncated": encoded.truncated, "skipped": encoded.skipped}
    cut["tokens"] = int(encoded.target_counts.sum())
    for number, steer in enumerate(steers):
        data = {**summary(examples, number), **cut}
        steers[number] = replace(steer, record={**steer.record, **record, "data": data})
    return steers


def _check_start(model: nn.Module, start: Steer, names: Sequence[str]) -> None:
    check_fit(model, start)
    if start.site != "output" or len(names) != 1:
        raise InputError(
            f"start= takes one steer at the output site, for one style; was at {start.site!r}, for "
            f"{len(names)} styles"
        )


def _start_map(options: Options, states: States) -> Map | None:
    if options.start is None:
        return None
    zero = Map.zeros(states, domain=options.domain)
    parts = [options.start.matrix()]
    if options.domain:
        domain = options.start.domain
        parts.append(torch.zeros_like(parts[0]) if domain is None else domain.matrix())
    return Map(torch.stack(parts).to(zero.parts), options.domain)


def _longest(model: nn.Module, options: Options) -> int:
    longest = RECIPE.max_length if options.solver == "paper" else _LONGEST
    context = getattr(text_config(model), "max_position_embeddings", None)
    return min(longest, context or longest)


def _check_labels(examples: Sequence[Example], names: Sequence[str]) -> None:
    if not examples:
        raise InputError("no examples given; a steer is learned from at least two labelled texts")
    for example in examples:
        if len(example.labels) != len(names):
            raise InputError(
                f"expected {len(names)} labels a text, one for each of {', '.join(names)}; "
                f"got {len(example.labels)} for {example.text[:40]!r}"
            )
    for number, name in enumerate(names):
        labels = {e.labels[number] for e in examples}
        if len(labels) == 1:
            which = f" for {name!r}" if len(names) > 1 else ""
            raise InputError(
                f"all {len(examples)} examples have the label {labels.pop():g}{which}: a steer "
                "learns what separates labels, so give texts of both kinds (say +1 and -1)"
            )


def _read(
    model: nn.Module,
    encoded: Encoded,
    kept: list[int],
    tested: list[int],
    options: Options,
    keep: Keep,
    processes: Workers,
) -> tuple[States, States | None]:
    """States to learn from and states held out, read in one pass, side by side in one place."""
    states = read_states(
        model,
        encoded.only([*kept, *tested]),
        progress=options.progress,
        fast=options.fast,
        keep=keep,
        workers=processes,
    )
    if not tested:
        return states, None
    return states.split(len(kept))


def _few(judges: States | None) -> States | None:
    return None if judges is None else judges.spread(JUDGED_ON)
