"""`compare`: fit each method, write at its strengths, measure; one method after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...generation import generate
from ...metrics import Estimate, Scorer, acceptability, text_perplexity
from ...model import input_device
from ...states import SHOWN, Progress, watched
from ...steer import strength_texts
from ...text import Example, digest_of
from ..evaluation import check_scorers, measure
from ..methods import Method
from .choosing import find_methods
from .cost import Used, decode_ratio, used
from .rows import MethodRow, keep_row, read_row, row_file
from .settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@watched
def compare(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    names: Sequence[str],
    examples: Sequence[Example],
    prompts: Sequence[str],
    scorers: Mapping[str, Scorer],
    *,
    signs: Sequence[int] = (1, -1),
    settings: Settings | None = None,
    worst: bool = False,
    folder: Path | None = None,
    progress: Progress | None = SHOWN,
    done: Callable[[MethodRow], None] | None = None,
) -> list[MethodRow]:
    """Measure each method on the same model, examples, prompts, random numbers and scorers.

    Args:
        model: The base model, which also gives the perplexities; it is left as it came.
        tokenizer: The model's own tokenizer.
        names: Names of methods (see `method_names`), or of steers that are ready.
        examples: The labelled texts that methods learn from.
        prompts: The prompts that each method continues.
        scorers: Scorers by name; their scores lie in [-1, 1].
        signs: The directions in which strengths are tried.
        settings: How text is written and judged.
        worst: Whether the style is one to be avoided; see `evaluation.measure`.
        folder: Where each method's row is saved as soon as it is measured. Rows that an earlier
            run of the same settings saved there are not measured again.
        progress: How the work reports how far it is, as for `lmsteer.train`.
        done: Called with each row.

    Raises:
        InputError: An unknown method, one that is named twice, an option that none of the methods
            takes, or a folder of another run.
        MissingExtraError: A method needs a package that is not installed.
    """
    settings = settings or Settings()
    check_scorers(scorers, worst=worst)
    found = find_methods(names, model)
    settings.check(found)
    rows: list[MethodRow] = []
    base: dict[int, dict[str, Estimate]] = {}
    lent: dict[type[Method], tuple[Method, Used]] = {}
    lenders = {method.lender for method in found}
    asked = _asked(examples, prompts, settings, signs, scorers)
    for name, method in zip(names, found, strict=True):
        path = None if folder is None else folder / row_file(name, method)
        known = None if path is None else read_row(path, asked)
        if known is None:
            few = list(prompts)[: settings.slow_count] if method.slow else list(prompts)
            if len(few) not in base:
                records = generate(model, tokenizer, few, progress=progress, **settings.sampling())
                figures = measure(model, tokenizer, records, scorers, worst=worst, fast=True)
                base[len(few)] = figures | _given(model, tokenizer, settings)
            fitted, cost = _fit(method, model, tokenizer, examples, settings, lent, progress)
            if method in lenders:
                lent[method] = fitted, cost
            row = MethodRow(
                name,
                fitted.source,
                fitted.frozen,
                fitted.parameters,
                len(few),
                cost.seconds,
                cost.mebibytes,
                base=base[len(few)],
                emphasised=fitted.emphasised,
            )
            _measure(fitted, row, model, tokenizer, few, scorers, signs, settings, worst, progress)
            if path is not None:
                keep_row(path, asked, row)
            known = row
        rows.append(replace(known, name=name))  # a steer may have been measured in another place
        if done:
            done(rows[-1])
    return rows


def _fit(
    method: type[Method] | Method,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    settings: Settings,
    lent: Mapping[type[Method], tuple[Method, Used]],
    progress: Progress | None,
) -> tuple[Method, Used]:
    """A method that is ready to write, and what its fit cost."""
    if isinstance(method, Method):
        return method, Used(0.0, None)
    if (
        method.lender and method.lender in lent
    ):  # it would have had to learn the same, at the same cost
        lender, cost = lent[method.lender]
        return method.borrow(lender, model), cost
    options = {k: v for k, v in settings.options.items() if k in method.fit_options}
    with used(input_device(model)) as cost:
        fitted = method.fit(
            model, tokenizer, examples, seed=settings.seed, progress=progress, **options
        )
    return fitted, cost


def _measure(
    method: Method,
    row: MethodRow,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    scorers: Mapping[str, Scorer],
    signs: Sequence[int],
    settings: Settings,
    worst: bool,
    progress: Progress | None,
) -> None:
    """Fill in a row: the time of writing, then figures at each strength, the largest first."""
    middle = signs[0] * method.strengths[len(method.strengths) // 2]
    row.decode = decode_ratio(
        method,
        model,
        tokenizer,
        list(prompts)[: method.clock_prompts],
        middle,
        max_new_tokens=settings.tokens,
        top_p=settings.top_p,
        batch_size=settings.batch_size,
    )
    wanted = [sign * size for size in sorted(method.strengths, reverse=True) for sign in signs]
    for number, (strength, text) in enumerate(zip(wanted, strength_texts(wanted), strict=True)):
        if progress:
            progress(f"measure {row.name}", number, len(wanted))
        records = method.generate(model, tokenizer, prompts, strength, **settings.sampling())
        figures = measure(model, tokenizer, records, scorers, worst=worst, fast=True)
        if method.readable:
            with method.attach(model, strength) as steered:
                figures |= _given(steered, tokenizer, settings)
        row.figures[text] = figures
    if progress:
        progress(f"measure {row.name}", len(wanted), len(wanted))


def _given(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: Settings
) -> dict[str, Estimate]:
    """How well the model still predicts text that people wrote."""
    found = {}
    if settings.neutral:
        found["neutral"] = text_perplexity(model, tokenizer, settings.neutral)
    sentences, good = settings.sentences
    if sentences:
        found["acceptability"] = acceptability(model, tokenizer, sentences, good)
    return found


def _asked(
    examples: Sequence[Example],
    prompts: Sequence[str],
    settings: Settings,
    signs: Sequence[int],
    scorers: Mapping[str, Scorer],
) -> dict[str, Any]:
    """What a saved row depends on; text does not depend on the batch it is written in."""
    sampling = settings.sampling()
    del sampling["batch_size"]
    return {
        "examples": digest_of(examples),
        "prompts": list(prompts),
        "signs": list(signs),
        "scorers": sorted(scorers),
        "given": [len(settings.neutral), len(settings.sentences[0])],
        "slow_count": settings.slow_count,
        "options": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in settings.options.items()
        },
        **sampling,
    }
