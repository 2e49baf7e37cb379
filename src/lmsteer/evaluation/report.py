"""A report of measured rows as Markdown, and what machine made it."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..generation import Generation
from ..metrics import Estimate


def environment() -> dict[str, Any]:
    """Versions and hardware that figures may depend on."""
    import transformers

    from .. import __version__

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return {
        "lmsteer": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "device": device,
        "threads": torch.get_num_threads(),
    }


def label_of(strengths: Mapping[str, float]) -> str:
    """A mix of strengths in a few characters; "base" for none."""
    return ", ".join(f"{name} {value:+g}" for name, value in strengths.items() if value) or "base"


def markdown(
    title: str,
    groups: Mapping[str, Sequence[tuple[str, Mapping[str, Estimate]]]],
    samples: Sequence[Generation],
    facts: Mapping[str, Any],
    *,
    figure: str | None = None,
) -> str:
    """The report.

    Args:
        title: Its heading.
        groups: Measured rows by set of prompts: label and estimates of each mix of strengths.
        samples: Unpicked, shown as they are; mask them before where they may hurt.
        facts: Settings and environment, listed at the end.
        figure: File name of a figure to show.
    """
    lines = [f"# {title}", ""]
    for group, rows in groups.items():
        names = list(rows[0][1])
        lines += [f"## {group}", "", f"| strengths | {' | '.join(names)} |"]
        lines += [f"|---|{'---|' * len(names)}"]
        for label, row in rows:
            lines.append(f"| {label} | {' | '.join(str(row[name]) for name in names)} |")
        lines.append("")
    lines += ["Values with 95% bootstrap intervals over prompts.", ""]
    if figure:
        lines += [f"![style against perplexity]({figure})", ""]
    lines += ["## Samples, unpicked", ""]
    for record in samples:
        text = " ".join(record.text.split())
        lines.append(f"- `{label_of(record.strengths)}` **{record.prompt}** {text}")
    lines += ["", "## How this was made", ""]
    lines += [f"- {key}: {value}" for key, value in facts.items()]
    return "\n".join(lines) + "\n"
