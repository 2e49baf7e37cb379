"""From labelled text to steers: the steps that every solver shares, in order."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from torch import nn
from typing_extensions import Unpack

from ..errors import InputError, UnsupportedError
from ..model import copied_from, fingerprint, head_dim, read_head
from ..states import Keep, workers
from ..steer import Reach, Site, Steer
from ..text import Example, counts, split_held_out, summary
from .checks import check_labels, check_start
from .options import OPTIONS, TrainOptions, check_together
from .reading import encode_texts, in_order, keep_in, length_for
from .solvers import Fitted, Problem, find_solver

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@OPTIONS.documented
def fit(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    names: Sequence[str],
    **options: Unpack[TrainOptions],
) -> list[Steer]:
    """Learn one steer per name: read the texts, solve for the map, and record how it went.

    Args:
        model: A causal (or encoder-decoder) language model; it is left as it came.
        tokenizer: The model's own.
        examples: Texts with one label per name.
        names: The names of the steers.
        **options: See `TrainOptions`.

    Raises:
        InputError: Examples or options that cannot be used.
        MismatchError: The work to be resumed was begun otherwise.
        UnsupportedError: A model that this cannot be trained on.
    """
    options = OPTIONS.fill(options, "train")
    check_together(options)
    solver, processes = find_solver(options), workers()
    if solver.alone and processes.size > 1:
        raise UnsupportedError(f"{solver.alone} is trained in one process, not in {processes.size}")
    examples = in_order(examples)
    check_labels(examples, names)
    started = time.perf_counter()
    longest = length_for(model, options["max_length"], solver.longest)
    encoded = encode_texts(
        model,
        tokenizer,
        examples,
        longest,
        chat=options["chat"],
        weight=options["weight"],
        balance=options["balance"],
    )
    dim = head_dim(model)
    if options["rank"] is not None and not 1 <= options["rank"] <= dim:
        raise InputError(f"rank must be between 1 and {dim}, was: {options['rank']}")
    check_start(model, options["start"], options["site"], options["where"], len(names))
    kept, tested = split_held_out(
        [examples[i] for i in encoded.source], options["held_out"], salt=options["salt"]
    )
    problem = Problem(
        model,
        read_head(model),
        encoded,
        kept,
        tested,
        options,
        _keep(model, examples, options, longest),
        processes,
        started,
    )
    fitted = solver.fit(problem)
    held = [examples[encoded.source[i]] for i in tested]
    record = {**_recorded(options), "max_length": longest, **fitted.record}
    if fitted.nll is not None:
        before, after, tokens = fitted.nll
        record["held_out"] = {"texts": len(tested), "tokens": tokens}
        record["held_out"] |= {"nll_base": before, "nll": after}
    if (copy := copied_from(model)) is not None:
        record["model_copy"] = copy
    record["seconds"] = round(time.perf_counter() - started, 3)
    cut = {"truncated": encoded.truncated, "skipped": encoded.skipped}
    cut["tokens"] = int(encoded.target_counts.sum())
    return [
        replace(
            steer,
            record={
                **record,
                **fitted.each[number],
                "data": {**summary(examples, number), **cut, "held_out": counts(held, number)},
            },
        )
        for number, steer in enumerate(_steers(model, fitted, names, options))
    ]


def _keep(
    model: nn.Module, examples: Sequence[Example], options: TrainOptions, max_length: int
) -> Keep:
    start = options["start"]
    key = {
        **{name: value for name, value in _values(options) if OPTIONS[name].decides},
        "start": None if start is None else start.digest,
        "max_length": max_length,
    }
    return keep_in(
        options["folder"],
        model,
        examples,
        resume=options["resume"],
        memory=options["memory"],
        key=key,
    )


def _recorded(options: TrainOptions) -> dict[str, Any]:
    """The options as the record keeps them."""
    return {name: value for name, value in _values(options) if OPTIONS[name].recorded}


def _values(options: TrainOptions) -> list[tuple[str, Any]]:
    return list(cast("Mapping[str, Any]", options).items())


def _steers(
    model: nn.Module, fitted: Fitted, names: Sequence[str], options: TrainOptions
) -> list[Steer]:
    """The factors as steers, one per name; they share the domain."""
    site, where = cast("Site", options["site"]), cast("Reach", options["where"])
    mark = fingerprint(model, site)
    steers = []
    for name, (P, Q) in zip(names, fitted.factors, strict=False):
        domain = None
        if options["domain"]:
            domain = Steer(
                *fitted.factors[-1],
                name=f"{name}.domain",
                site=site,
                fingerprint=mark,
                record={"part": "domain"},
                where=where,
            )
        steer = Steer(P, Q, name=name, site=site, domain=domain, fingerprint=mark, where=where)
        steers.append(steer)
    return steers
