"""A figure for each part, by matplotlib (extra `plot`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...figures import COLOURS, subplots
from .checks import Part, TableRow, column
from .composition import GRID
from .exact import ERRORS, MIXED
from .learning import EXCESS, KL
from .softmax import FLOORS
from .swb import BEST, FAMILIES

BLUE, RED, GREEN, PINK, ORANGE, SKY = COLOURS
_NOTHING = 1e-17  # where a log axis puts a KL of 0
_DPI = 110


def draw(part: Part, path: str | Path) -> None:
    """Draw a part into a file (PNG, PDF, SVG).

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    panels, drawing = _DRAWINGS[part.name]
    figure, axes = subplots(1, panels, figsize=(4.6 * panels, 3.4), squeeze=False)
    drawing(part, axes[0])
    figure.tight_layout()
    figure.savefig(path, dpi=_DPI)


def _exact(part: Part, axes: Any) -> None:
    rows = part.tables[ERRORS]
    names = {
        "steered": "steered by W",
        "interpolated": "strengths 0 to 1",
        "unsteered": "not steered",
        "mixing": "styles mix",
        "twice": "beliefs under π′",
        "once": "first word only",
        "softmax": "softmax head",
    }
    for place, name in enumerate(names):
        values = column(rows, name)
        axes[0].plot(
            values, [place] * len(values), "o", color=BLUE if place < 2 else RED, alpha=0.5
        )
    axes[0].set_yticks(range(len(names)), names.values(), fontsize=8)
    axes[0].invert_yaxis()
    axes[0].set_xscale("log")
    axes[0].axvline(1e-12, color="0.7", linewidth=0.8)
    axes[0].set_xlabel("largest |Δ log-prob|, nats")
    axes[0].set_title("exact (blue), and each assumption broken (red)", fontsize=10)
    mixed = part.tables[MIXED]
    share = column(mixed, "share")
    axes[1].plot(share, column(mixed, "median"), "o-", color=RED, markersize=4)
    axes[1].fill_between(
        share, column(mixed, "least"), column(mixed, "most"), color=RED, alpha=0.2, linewidth=0
    )
    axes[1].set_ylim(bottom=0)
    axes[1].set_xlabel("share of texts that change style at a step")
    axes[1].set_ylabel("largest |Δ log-prob|, nats")
    axes[1].set_title("where styles mix, W misses", fontsize=10)


def _composition(part: Part, axes: Any) -> None:
    rows = part.tables[GRID]
    equal = [row for row in rows if row["first"] == row["second"] and row["kl_sum"] is not None]
    strength, lost = column(equal, "first"), column(equal, "kl_sum")
    axes[0].plot(strength, lost, "o-", color=RED, markersize=4, label="sum of the maps")
    power = lost[0] * (strength / strength[0]) ** 4
    axes[0].plot(strength, power, "--", color="0.5", label="slope 4")
    axes[0].set_xscale("log")
    axes[0].set_yscale("log")
    axes[0].set_xticks(strength, [f"{value:g}" for value in strength])
    axes[0].minorticks_off()
    axes[0].set_xlabel("ε₁ = ε₂")
    axes[0].set_ylabel("KL from the truth, nats per word")
    axes[0].legend(fontsize=8)
    axes[0].set_title("what the sum loses; the product is exact", fontsize=10)
    ticks = list(dict.fromkeys(column(rows, "first").tolist()))
    lost = column(rows, "kl_sum").reshape(len(ticks), -1).T
    image = axes[1].imshow(np.log10(lost), origin="lower", cmap="viridis", aspect="auto")
    for y, x in zip(*np.nonzero(np.isnan(lost)), strict=True):
        axes[1].text(x, y, "chances\nbelow 0", ha="center", va="center", fontsize=6)
    axes[1].set_xticks(range(len(ticks)), [f"{tick:g}" for tick in ticks])
    axes[1].set_yticks(range(len(ticks)), [f"{tick:g}" for tick in ticks])
    axes[1].set_xlabel("ε₁")
    axes[1].set_ylabel("ε₂")
    axes[1].set_title("log₁₀ of the sum's KL", fontsize=10)
    axes[1].figure.colorbar(image, ax=axes[1], fraction=0.046)


def _softmax(part: Part, axes: Any) -> None:
    rows = part.tables[FLOORS]
    widths = sorted(set(column(rows, "dim").tolist()))
    for name, label, colour in (
        ("unsteered", "not steered", "0.5"),
        ("offset", "best static offset", ORANGE),
        ("map", "best W", BLUE),
    ):
        values = np.maximum(
            [column([row for row in rows if row["dim"] == d], name) for d in widths], _NOTHING
        )
        axes[0].plot(widths, np.median(values, 1), "o-", color=colour, markersize=3, label=label)
        axes[0].fill_between(
            widths, values.min(1), values.max(1), color=colour, alpha=0.2, linewidth=0
        )
    axes[0].set_yscale("log")
    axes[0].set_xlabel(f"width d; there are {widths[-1]:g} contexts")
    axes[0].set_ylabel("KL from π′, nats per word")
    axes[0].legend(fontsize=8)
    axes[0].set_title("softmax head: the floor falls with the width", fontsize=10)


def _swb(part: Part, axes: Any) -> None:
    rows = part.tables[BEST]
    shown = (("unsteered", "0.5"), ("offset", ORANGE), ("map", BLUE))
    labels = {"unsteered": "not steered", "offset": "best static offset", "map": "fitted W"}
    for place, family in enumerate(FAMILIES):
        chosen = [row for row in rows if row["family"] == family]
        for shift, (name, colour) in enumerate(shown):
            values = np.maximum(column(chosen, name), _NOTHING)
            axes[0].plot(
                np.full(len(values), place + 0.22 * (shift - 1)),
                values,
                "o",
                color=colour,
                alpha=0.6,
                markersize=5,
                label=labels[name] if place == 0 else None,
            )
    axes[0].set_yscale("log")
    axes[0].set_xticks(range(len(FAMILIES)), list(FAMILIES))
    axes[0].set_ylabel("KL from π′, nats per word")
    axes[0].legend(fontsize=8)
    axes[0].set_title("one offset whatever the context, against W", fontsize=10)


def _learning(part: Part, axes: Any) -> None:
    (told,), rows = part.tables[KL], part.tables[EXCESS]
    for solver, label, colour in (
        ("cached", "cached, no ridge", BLUE),
        ("convex", "solver convex", ORANGE),
    ):
        chosen = [row for row in rows if row["solver"] == solver]
        words, means = _means(chosen)
        axes[0].plot(
            column(chosen, "words"), column(chosen, "excess"), "o", color=colour, alpha=0.4,
            markersize=4,
        )  # fmt: skip
        power = told["slope" if solver == "cached" else "slope_of_convex"]
        axes[0].plot(words, means, color=colour, label=f"{label}, slope {power:.2f}")
    axes[0].plot(
        words, column([told], "parameters") / (2 * words), "--", color="0.5",
        label=f"{told['parameters']} parameters / 2 words",
    )  # fmt: skip
    axes[0].axhline(
        column([told], "floor")[0], color=GREEN, linewidth=0.8, label="the floor itself"
    )
    axes[0].set_xscale("log")
    axes[0].set_yscale("log")
    axes[0].set_xlabel("labelled words")
    axes[0].set_ylabel("KL above the floor, nats per word")
    axes[0].legend(fontsize=7)
    axes[0].set_title("learning from samples", fontsize=10)


def _means(rows: list[TableRow]) -> tuple[np.ndarray, np.ndarray]:
    words = np.unique(column(rows, "words"))
    chosen = ([row for row in rows if row["words"] == count] for count in words)
    return words, np.array([column(some, "excess").mean() for some in chosen])


_DRAWINGS: dict[str, tuple[int, Callable[[Part, Any], None]]] = {
    "exact": (2, _exact),
    "composition": (2, _composition),
    "softmax": (1, _softmax),
    "swb": (1, _swb),
    "learning": (1, _learning),
}
