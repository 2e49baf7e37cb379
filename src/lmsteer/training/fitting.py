"""From labelled text to steers: the steps that every solver shares, in order."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import nn

from ..errors import InputError, UnsupportedError
from ..model import Head, context_length, decoder_start, fingerprint, read_head
from ..states import Keep, States, Workers, read_states, workers
from ..steer import Reach, Steer
from ..text import Encoded, Example, as_chat, counts, encode, split_held_out, summary
from .cached import fit_cached
from .checks import check_labels, check_start, start_map
from .convex import fit_convex
from .curvature import Curvature
from .finish import to_steers
from .inputs import fit_inputs, steered_nll
from .objective import mean_nll
from .options import Options
from .paper import RECIPE, fit_paper

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

JUDGED_ON = 16384
"""Held-out tokens, evenly spread, that stopping, ridge and rank are judged on; the record's
figures are on all of them."""
_LONGEST = 1024


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
    check_labels(examples, names)
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
    check_start(model, options.start, options.site, options.where, len(names))
    kept, tested = split_held_out(
        [examples[i] for i in encoded.source], options.held_out, salt=options.salt
    )
    if options.site == "input":
        if processes.size > 1:
            raise UnsupportedError('site="input" is trained in one process')
        return _learn_inputs(model, head, encoded, kept, tested, examples, names, options, started)
    keep = options.keep(model, examples, max_length)
    fit: dict[str, Any] = {name: getattr(options, name) for name in ("domain", "steps", "progress")}
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
            fit |= {
                "start": start_map(options.start, states, domain=options.domain),
                "ridge": options.ridge,
            }
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
    return _told(steers, record, examples, encoded, tested, started)


def _learn_inputs(
    model: nn.Module,
    head: Head,
    encoded: Encoded,
    kept: list[int],
    tested: list[int],
    examples: Sequence[Example],
    names: Sequence[str],
    options: Options,
    started: float,
) -> list[Steer]:
    prompt_only = options.where == "prompt"
    where: Reach = "prompt" if prompt_only else "all"
    if prompt_only and min(encoded.starts.tolist()) < 2:
        raise InputError(
            'where="prompt" steers the prompts, and at least one example has none: give '
            "Example(text, label, prompt), or --prompt-column"
        )
    if prompt_only and encoded.encoder_inputs is not None:
        raise UnsupportedError(
            'where="prompt" is for causal models: of an encoder-decoder model it is not known '
            "which of its tables is reading"
        )
    factors, course = fit_inputs(
        model,
        head,
        encoded,
        kept,
        tested,
        rank=options.rank,
        domain=options.domain,
        prompt_only=prompt_only,
        steps=options.steps,
        seed=options.seed,
        fast=options.fast,
        checkpointing=options.checkpointing,
        start=options.start,
        progress=options.progress,
    )
    record: dict[str, Any] = {
        "solver": "gradient",
        "seed": options.seed,
        "weight": options.weight,
        "balance": options.balance,
        "chat": options.chat,
        "where": options.where,
        "fast": options.fast,
        "course": course,
    }
    if tested:
        judges = encoded.only(tested)
        record["held_out"] = {
            "texts": len(tested),
            "tokens": int(judges.target_counts.sum()),
            "nll_base": steered_nll(model, head, judges, None),
            "nll": steered_nll(model, head, judges, factors),
        }
    mark = fingerprint(model, "input")
    steers = []
    for number, name in enumerate(names):
        domain = None
        if options.domain:
            P, Q, told = factors.P[-1], factors.Q[-1], {"part": "domain"}
            domain = Steer(P, Q, f"{name}.domain", "input", None, mark, told, where)
        P, Q = factors.P[number], factors.Q[number]
        steers.append(Steer(P, Q, name, "input", domain, mark, record, where))
    return _told(steers, record, examples, encoded, tested, started)


def _told(
    steers: list[Steer],
    record: dict[str, Any],
    examples: Sequence[Example],
    encoded: Encoded,
    tested: Sequence[int],
    started: float,
) -> list[Steer]:
    """The steers with all that is to be known of how they were made."""
    record["seconds"] = round(time.perf_counter() - started, 3)
    cut = {"truncated": encoded.truncated, "skipped": encoded.skipped}
    cut["tokens"] = int(encoded.target_counts.sum())
    held = [examples[encoded.source[i]] for i in tested]
    return [
        replace(
            steer,
            record={
                **steer.record,
                **record,
                "data": {**summary(examples, number), **cut, "held_out": counts(held, number)},
            },
        )
        for number, steer in enumerate(steers)
    ]


def _longest(model: nn.Module, options: Options) -> int:
    longest = RECIPE.max_length if options.solver == "paper" else _LONGEST
    return min(longest, context_length(model) or longest)


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
