"""`lmsteer theory`: the claim behind the method, checked where every probability is known."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ..errors import InputError
from .display import escape, hush_transformers, out, print_json, progress_bars
from .options import SEED, Figures, Json, Seed

if TYPE_CHECKING:
    from ..research.theory import Part


def theory(
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="A part to check: exact, composition, softmax, swb or learning. May be given "
            "several times.  [default: all parts]"
        ),
    ] = None,
    figures: Figures = None,
    seed: Seed = SEED,
    json_: Json = False,
) -> None:
    """Check the theory: where a change of style is a linear map of the word embeddings.

    The languages are hidden Markov models, where all probabilities are known. exact: one map W is
    the change of style, under each assumption that it needs. composition: two styles, as the
    product and as the sum of maps. softmax: how near W comes under a softmax head. swb: what one
    offset per word cannot do. learning: a small transformer and lmsteer.train, against the truth.
    All parts take about a minute. The command exits with 1 when a check fails. docs/theory.md
    explains each part.

    Example: lmsteer theory --only exact --only softmax --figures figures
    """
    from ..figures import check_matplotlib
    from ..research.theory import PARTS, draw

    chosen = only or list(PARTS)
    unknown = [name for name in chosen if name not in PARTS]
    if unknown:
        raise InputError(f"--only must be one of {', '.join(PARTS)}; was: {', '.join(unknown)}")
    if seed < 0:
        raise InputError(f"--seed must be at least 0, was: {seed}")
    if figures is not None:
        check_matplotlib()  # say that matplotlib is missing before the work, not after
        figures.mkdir(parents=True, exist_ok=True)
    hush_transformers()
    parts = []
    for name in dict.fromkeys(chosen):
        with progress_bars(quiet=json_) as progress:
            part = PARTS[name](seed, progress=progress)
        parts.append(part)
        if figures is not None:
            draw(part, figures / f"{name}.png")
        if not json_:
            _show(part)
    passed = all(part.passed for part in parts)
    if json_:
        told = [
            {**asdict(part), "checks": [{**asdict(c), "passed": c.passed} for c in part.checks]}
            for part in parts
        ]
        print_json({"seed": seed, "passed": passed, "parts": told})
    elif figures is not None:
        out.print(f"figures: {escape(str(figures))}")
    if not passed:
        raise typer.Exit(1)


def _show(part: Part) -> None:
    out.print(f"\n[bold]{part.name}[/]  {escape(part.claim)}")
    numbers = Table(*(escape(name) for name in part.summary[0]))
    for row in part.summary:
        numbers.add_row(*(_told(value) for value in row.values()))
    out.print(numbers)
    checks = Table("check", "measured", "bar", "")
    for check in part.checks:
        bar = f"{'≤' if check.sense == '<' else '≥'} {check.bar:g}"
        word = "[green]holds[/]" if check.passed else "[bold red]FAILS[/]"
        checks.add_row(escape(check.name), f"{check.value:.3g}", bar, word)
    out.print(checks)


def _told(value: float | int | str | None) -> str:
    if value is None:
        return "below 0"
    return f"{value:.3g}" if isinstance(value, float) else escape(str(value))
