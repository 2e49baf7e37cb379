"""`compare`: fit each method, write at its strengths, measure; one method after another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from ...generation import generate
from ...metrics import Estimate, Scorer, acceptability, text_perplexity
from ...model import input_device
from ...states import Progress
from ...steer import strength_texts
from ...text import Example, digest_of
from ..evaluation import check_scorers, measure
from ..methods import DAPT, DExperts, Instruction, Method
from .cost import Used, decode_ratio, used
from .methods import Steered, WithinNucleus, find_method
from .rows import Row, keep_row, read_row, row_file

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SHARES: dict[type[Method], tuple[type[Method], Callable[[Any, PreTrainedModel], Method]]] = {
    DExperts: (DAPT, DExperts.from_dapt),
    WithinNucleus: (Steered, lambda lent, model: WithinNucleus(lent.steer)),
}
"""Methods that learn what another has learned already: which, and how they take it over."""
LENDERS = {lender for lender, _ in SHARES.values()}
DECODE_ROWS = 64
DECODES_MANY = ("pplm", "best-of")
"""Methods whose time a token is clocked on fewer rows."""


@dataclass(frozen=True)
class Settings:
    """How text is written and what it is judged by.

    Args:
        samples: Continuations of each prompt.
        tokens: Length of each.
        top_p: Nucleus sampling.
        seed: Of sampling and of fits.
        batch_size: Rows computed at once.
        slow_count: Prompts for PPLM, which takes a hundred times as long.
        neutral: Text of no style, whose perplexity says what of the model is kept.
        sentences: Acceptable sentences and others, with their verdicts, for the AUC.
        instructions: Of the method "instruction", for strength 1 and -1; see `Instruction.fit`.
    """

    samples: int = 25
    tokens: int = 20
    top_p: float = 0.9
    seed: int = 0
    batch_size: int = 128
    slow_count: int = 10
    neutral: Sequence[str] = ()
    sentences: tuple[Sequence[str], Sequence[bool]] = ((), ())
    instructions: tuple[str, str] | None = None

    def sampling(self) -> dict[str, Any]:
        """Options of `generate`."""
        return {
            "samples": self.samples,
            "max_new_tokens": self.tokens,
            "top_p": self.top_p,
            "seed": self.seed,
            "batch_size": self.batch_size,
        }


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
    progress: Progress | None = None,
    done: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Each method on the same model, examples, prompts, random numbers and scorers.

    Args:
        model: The base model, which also gives perplexities; left as it came.
        tokenizer: Its own.
        names: Of `METHODS`, or of steers that are ready.
        examples: What methods learn from.
        prompts: Continued by each.
        scorers: By name, scores in [-1, 1].
        signs: Directions of strengths.
        settings: The rest.
        worst: Measure as for a style to be rid of; see `evaluation.measure`.
        folder: Keep each method's row here as it is done; those there are not measured again.
        progress: Called as ``progress(stage, done, total)``.
        done: Told each row.

    Raises:
        InputError: An unknown method, one that is named twice, or a folder of another run.
    """
    told = settings or Settings()
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"each method is compared once; named twice: {', '.join(twice)}")
    check_scorers(scorers, worst=worst)
    found = [find_method(name, model) for name in names]
    rows: list[Row] = []
    base: dict[int, dict[str, Estimate]] = {}
    kept: dict[type[Method], tuple[Method, Used]] = {}
    asked = _asked(examples, prompts, told, signs, scorers)
    for name, method in zip(names, found, strict=True):
        path = None if folder is None else folder / row_file(name, method)
        known = None if path is None else read_row(path, asked)
        if known is None:
            few = list(prompts)[: told.slow_count] if name == "pplm" else list(prompts)
            if len(few) not in base:
                records = generate(model, tokenizer, few, progress=progress, **told.sampling())
                figures = measure(model, tokenizer, records, scorers, worst=worst, fast=True)
                base[len(few)] = figures | _given(model, tokenizer, told)
            fitted, row = _fit(name, method, model, tokenizer, examples, told, kept, progress)
            row.prompts, row.base = len(few), base[len(few)]
            _measure(fitted, row, model, tokenizer, few, scorers, signs, told, worst, progress)
            if path is not None:
                keep_row(path, asked, row)
            known = row
        rows.append(replace(known, name=name))  # a steer may have been measured in another place
        if done:
            done(rows[-1])
    return rows


def _fit(
    name: str,
    method: type[Method] | Steered,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    settings: Settings,
    kept: dict[type[Method], tuple[Method, Used]],
    progress: Progress | None,
) -> tuple[Method, Row]:
    """A method that is ready, and a row that tells what the fit cost."""
    if isinstance(method, Steered):
        return method, Row(name, method.source, method.frozen, method.parameters, 0)
    fitted: Method
    told: dict[str, Any] = {}
    if method is Instruction:
        told = {"instructions": settings.instructions}
    lender, borrow = SHARES.get(method, (method, None))
    if borrow and lender in kept:  # it would have had to learn the same, at the same cost
        lent, cost = kept[lender]
        fitted = borrow(lent, model)
    else:
        with used(input_device(model)) as cost:
            fitted = method.fit(
                model, tokenizer, examples, seed=settings.seed, progress=progress, **told
            )
    row = Row(
        name, method.source, method.frozen, fitted.parameters, 0, cost.seconds, cost.mebibytes
    )
    if method in LENDERS:
        kept[method] = fitted, cost
    return fitted, row


def _measure(
    method: Method,
    row: Row,
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
    few = 8 if row.name in DECODES_MANY else DECODE_ROWS
    row.decode = decode_ratio(
        method,
        model,
        tokenizer,
        list(prompts)[:few],
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
    """What of the model is kept, by text that people wrote."""
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
    """What a kept row depends on; text does not depend on the batch it is written in."""
    sampling = settings.sampling()
    del sampling["batch_size"]
    return {
        "examples": digest_of(examples),
        "prompts": list(prompts),
        "signs": list(signs),
        "scorers": sorted(scorers),
        "given": [len(settings.neutral), len(settings.sentences[0])],
        "slow_count": settings.slow_count,
        "instructions": settings.instructions and list(settings.instructions),
        **sampling,
    }
