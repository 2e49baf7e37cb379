"""The work of `lmsteer evaluate`: texts of one set of prompts, measured, and the report of all."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..steer import Steer, StrengthWarning, labels
from ..text import json_text
from .display import err, escape
from .tasks import Chosen

if TYPE_CHECKING:
    from ..generation import Generation
    from ..metrics import Estimate
    from ..states import Progress

# What a folder of a report holds beside the records of each set of prompts.
FILES = ("report.md", "report.json", "tradeoff.png")


class Group(NamedTuple):
    """What was measured on one set of prompts.

    Args:
        rows: A label and the figures of each mix of strengths, in order.
        shown: Unpicked samples, a few of each mix.
    """

    rows: list[tuple[str, dict[str, Estimate]]]
    shown: list[Generation]


def measure_group(
    opened: tuple[Any, Any],
    judge: tuple[Any, Any],
    mixes: Sequence[Mapping[Steer, float]],
    prompts: Sequence[str],
    chosen: Chosen,
    *,
    folder: Path,
    settings: dict[str, Any],
    sampling: dict[str, Any],
    force: bool,
    progress: Progress | None,
) -> Group:
    """Write at each mix, going on where an earlier run stopped, and measure.

    Args:
        opened: The model that writes, and its tokenizer.
        judge: The model that perplexity is taken under, and its tokenizer.
        mixes: Strengths of steers.
        prompts: The set.
        chosen: Its scorers.
        folder: Where the records are kept.
        settings: What the records depend on; see `research.evaluation.resumable`.
        sampling: Options of `lmsteer.generate`.
        force: Begin anew in a folder of other settings.
        progress: Called as ``progress(stage, done, total)``.
    """
    from ..generation import by_mix, generate
    from ..research.evaluation import labels_of, measure, resumable

    called = labels(s for mix in mixes for s in mix)
    told = labels_of([{called[s]: float(value) for s, value in mix.items()} for mix in mixes])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StrengthWarning)  # past the safe range is the purpose
        records = resumable(
            folder,
            settings,
            prompts,
            lambda part: generate(*opened, part, strengths=mixes, **sampling),
            records_a_prompt=len(mixes) * sampling["samples"],
            force=force,
            progress=progress,
        )
    found = Group([], [])
    for number, part in enumerate(by_mix(records, len(mixes))):
        row = measure(*judge, part, chosen.scorers, worst=chosen.worst)
        found.rows.append((told[number], row))
        found.shown.extend(part[:: max(1, len(part) // 3)][:3])
        if progress:
            progress("measure", number + 1, len(mixes))
    return found


def write_report(
    folder: Path, title: str, groups: Mapping[str, Group], facts: Mapping[str, Any], style: str
) -> dict[str, Any]:
    """Write the report as Markdown, JSON and a figure; offensive words are masked in samples.

    Args:
        folder: Where to.
        title: The report's heading.
        groups: By set of prompts.
        facts: How the texts were made.
        style: The figure that is drawn against perplexity.

    Returns:
        What the JSON file holds.
    """
    from ..metrics import masked
    from ..research.evaluation import environment, markdown
    from ..storage import write_file

    rows = {name: group.rows for name, group in groups.items()}
    shown = [
        replace(record, text=masked(record.text))
        for group in groups.values()
        for record in group.shown
    ]
    whole = {**facts, **environment()}
    figure = _draw(folder, rows, style, title)
    write_file(folder / "report.md", markdown(title, rows, shown, whole, figure=figure))
    listed = {
        name: [
            {"mix": number, "strengths": label, **{k: asdict(v) for k, v in row.items()}}
            for number, (label, row) in enumerate(part)
        ]
        for name, part in rows.items()
    }
    report = {"facts": whole, "rows": listed}
    write_file(folder / "report.json", json_text(report, indent=1))
    return report


def _draw(folder: Path, rows: Any, style: str, title: str) -> str | None:
    """Draw style against perplexity; the figure's file, or None where matplotlib is missing."""
    from ..figures import tradeoff_figure

    try:
        tradeoff_figure(folder / "tradeoff.png", rows, style, title)
    except ImportError as error:
        err.print(f"[yellow]{escape(str(error))}[/]")
        return None
    return "tradeoff.png"
