"""A steer as a classifier that needs no training of its own.

python -m experiments.reading.classify --data ../shared/data

The probability of a label is Bayes' rule on the text's likelihood at strengths +1 and -1, domain
part on, even odds. Accuracy, area under the curve and calibration (expected error over ten bins)
on text that the steer did not learn from: SST-2 test, reserved IMDB reviews, the half of the
politeness requests that it did not see, top and bottom quarter. "Per token": the same evidence
divided by the number of tokens and scaled by one number, fitted on a third of the texts.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.metrics import roc_auc_score

import lmsteer
from experiments.shared.results import read_results, write_results
from experiments.shared.styles import politeness_rows
from experiments.shared.text import RESERVED, clean, rows
from lmsteer.figures.plotting import COLOURS, subplots
from lmsteer.interpretation.spans import evidence
from lmsteer.metrics.scorers import load_scorer
from lmsteer.research.evaluation.document import environment

HERE = Path(__file__).parent
Labelled = list[tuple[str, int]]


def tests(data: Path) -> dict[str, tuple[str, Labelled]]:
    """Name of the set: steer, and labelled texts."""
    sst = [r for r in rows(data / "sst/sst_test.jsonl") if r["label2"] is not None]
    imdb = list(rows(data / "imdb_reviews/imdb_test.jsonl"))
    reviews = [imdb[i] for i in RESERVED[::10]]
    polite = politeness_rows(data)[1]
    return {
        "SST-2 test": ("sentiment", [(clean(r["text"]), r["label2"]) for r in sst]),
        "reserved IMDB": ("sentiment", [(clean(r["text"]), r["label"]) for r in reviews]),
        "politeness": (
            "politeness",
            [(t, int(s > 0)) for t, s in polite if s > 0.45 or s < -0.4],
        ),
    }


def reliability(chances: np.ndarray, labels: np.ndarray) -> tuple[float, list[list[float]]]:
    """Expected calibration error, and mean chance, share of label 1 and count of each bin."""
    bins = np.minimum((chances * 10).astype(int), 9)
    found = []
    for i in range(10):
        inside = bins == i
        if inside.any():
            found.append(
                [float(chances[inside].mean()), float(labels[inside].mean()), int(inside.sum())]
            )
    error = sum(abs(c - y) * n for c, y, n in found) / len(labels)
    return error, found


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--report", action="store_true", help="from the results that are there")
    args = parser.parse_args()
    if args.report:
        _report()
        return
    told: dict[str, dict] = {}
    for model_name in ("bundled", "bundled-small"):
        model, tokenizer = lmsteer.load_model(model_name)
        for name, (style, labelled) in tests(args.data).items():
            steer = lmsteer.load_steer(style, model)
            texts, labels = [t for t, _ in labelled], np.array([y for _, y in labelled])
            for domain in (True, False):
                read = evidence(model, tokenizer, steer, texts, spans=0, domain=domain)
                odds = np.array([e.ratio for e in read])
                mean = odds / np.maximum(1, [len(e.tokens) for e in read])
                third = np.arange(len(odds)) % 3 == 0

                def loss(scale: float, mean=mean, labels=labels, third=third) -> float:
                    signed = np.where(labels[third] == 1, 1, -1) * mean[third] * np.exp(scale)
                    return float(np.logaddexp(0, -signed).mean())

                scale = float(np.exp(minimize_scalar(loss, bounds=(-3, 7), method="bounded").x))
                chances = 1 / (1 + np.exp(-np.clip(odds, -500, 500)))
                scaled = 1 / (1 + np.exp(-mean * scale))
                row = {
                    "texts": len(labels),
                    "larger class": float(max(labels.mean(), 1 - labels.mean())),
                    "accuracy": float(((odds > 0) == labels).mean()),
                    "auc": float(roc_auc_score(labels, odds)),
                    "calibration error": reliability(chances, labels)[0],
                    "bins": reliability(chances, labels)[1],
                    "per token scale": scale,
                    "per token calibration error": reliability(scaled[~third], labels[~third])[0],
                    "per token bins": reliability(scaled[~third], labels[~third])[1],
                }
                if style == "sentiment":
                    shipped = load_scorer("sentiment")(texts)
                    row["trained scorer"] = float(((shipped > 0) == labels).mean())
                key = f"{name}, {model_name}, domain {'on' if domain else 'off'}"
                told[key] = row
                print(key, {k: v for k, v in row.items() if "bins" not in k}, flush=True)
    for key in told.keys() - set(drawn(told)):
        told[key] = {k: v for k, v in told[key].items() if "bins" not in k}
    write_results(HERE / "classify.json", {"facts": environment(), "rows": told})
    _report()


def drawn(told: Iterable[str]) -> list[str]:
    """The rows that the figure shows."""
    return [key for key in told if "bundled, domain on" in key]


def _report() -> None:
    """The table and the figure."""
    told = read_results(HERE / "classify.json")["rows"]
    lines = ["# A steer reads", "", (__doc__ or "").split("\n\n", 2)[2].strip(), ""]
    names = ["texts", "larger class", "accuracy", "auc", "calibration error"]
    names += ["per token calibration error", "trained scorer"]
    lines += [f"| set, model | {' | '.join(names)} |", f"|---{'|---:' * len(names)}|"]
    for key, row in told.items():
        cells = [row.get(n) for n in names]
        shown = ["" if c is None else f"{c:.3f}" if isinstance(c, float) else str(c) for c in cells]
        lines.append(f"| {key} | {' | '.join(shown)} |")
    lines += ["", "![reliability](reliability.png)", ""]
    (HERE / "README.md").write_text("\n".join(lines), encoding="utf-8")
    figure, axes = subplots(1, 2, figsize=(8.4, 3.8), sharey=True)
    for axis, kind in zip(axes, ("bins", "per token bins"), strict=True):
        axis.plot([0, 1], [0, 1], color="0.7", linewidth=0.8)
        for key, colour in zip(drawn(told), COLOURS, strict=False):
            points = told[key][kind]
            axis.plot([p[0] for p in points], [p[1] for p in points], "o-", color=colour,
                      markersize=3, label=key.split(",")[0])  # fmt: skip
        axis.set_xlabel("probability told")
        axis.set_title(
            "Bayes, whole text" if kind == "bins" else "per token, one scale", fontsize=10
        )
    axes[0].set_ylabel("share that has the label")
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(HERE / "reliability.png", dpi=130)


if __name__ == "__main__":
    main()
