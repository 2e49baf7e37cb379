"""A report of measured rows as Markdown, and what machine made it."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import torch

from ...generation import Generation
from ...metrics import Estimate
from ...steer import mix_texts
from ...text import code
from ...text import markdown as shown


def environment() -> dict[str, Any]:
    """Versions and hardware that figures may depend on."""
    import transformers

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return {
        "lmsteer": version("lmsteer"),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "device": device,
        "threads": torch.get_num_threads(),
    }


def labels_of(mixes: Sequence[Mapping[str, float]]) -> list[str]:
    """The mixes of strengths of a table's rows, in a few characters each; "base" for no strength.

    With as many digits as it takes for different mixes to have different labels.
    """
    return [
        ", ".join(f"{name} {text}" for name, text in texts.items() if mix[name]) or "base"
        for mix, texts in zip(mixes, mix_texts(mixes), strict=True)
    ]


def markdown(
    title: str,
    groups: Mapping[str, Sequence[tuple[str, Mapping[str, Estimate]]]],
    samples: Sequence[Generation],
    facts: Mapping[str, Any],
    *,
    figure: str | None = None,
) -> str:
    """Write the report as Markdown.

    Args:
        title: The heading of the report.
        groups: For each set of prompts, the label and the estimates of each mix of strengths.
        samples: Some records of each mix, which nobody picked; mask offensive words first.
        facts: Settings and environment; they are listed at the end.
        figure: The file name of a figure to show.
    """
    lines = [f"# {shown(title)}", ""]
    for group, rows in groups.items():
        names = list(rows[0][1])
        lines += [f"## {shown(group)}", "", f"| strengths | {' | '.join(map(shown, names))} |"]
        lines += [f"|---|{'---|' * len(names)}"]
        for label, row in rows:
            lines.append(f"| {shown(label)} | {' | '.join(str(row[name]) for name in names)} |")
        lines.append("")
    lines += ["Values with 95% bootstrap intervals over prompts.", ""]
    if figure:
        lines += [f"![style against perplexity]({figure})", ""]
    lines += ["## Samples, unpicked", ""]
    for record, label in zip(samples, labels_of([r.strengths for r in samples]), strict=True):
        prompt = f"**{shown(record.prompt)}** " if record.prompt.strip() else ""
        lines.append(f"- {code(label)} {prompt}{shown(record.text)}")
    lines += ["", "## How this was made", ""]
    lines += [f"- {shown(key)}: {shown(str(value))}" for key, value in facts.items()]
    return "\n".join(lines) + "\n"
