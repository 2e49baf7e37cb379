"""How much text and how many directions a steer needs, and what its domain part is worth.

python experiments/shipped_steers/efficiency.py data --data ../shared/data
python experiments/shipped_steers/efficiency.py rank --data ../shared/data
python experiments/shipped_steers/efficiency.py domain --data ../shared/data

Steers of different sizes cannot be compared at one strength. Each is run at the strengths, of both
signs, where it is 0.05 to 0.4 nats a token away from its base (exact, on unsteered text); its
**effect** is the share judged to have the style at + less that at -, and where the mean perplexity
of both signs passes 1.15 times the unsteered text's is read off between neighbours.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from styles import STYLES, Style

import lmsteer
from lmsteer.calibration import divergence
from lmsteer.evaluation import environment
from lmsteer.hidden import read_head, read_states
from lmsteer.metrics import bootstrap, perplexity
from lmsteer.metrics.perplexity import encode_records
from lmsteer.plotting import COLOURS, pyplot
from lmsteer.strengths import strength_at_kl

RESULTS = Path(__file__).parent / "results"
LEVELS = (0.05, 0.15, 0.4)
AT = 1.15
SIZES = (4, 10, 30, 100, 300, 1000, None)
RANKS = (1, 4, 16, 64, 320)


class Bench:
    """One model, its prompts, and its unsteered text."""

    def __init__(self, style: Style, prompts: int = 50, samples: int = 4) -> None:
        self.model, self.tokenizer = lmsteer.load_model("bundled")
        self.style, self.samples = style, samples
        self.prompts = lmsteer.read_prompts(f"bundled:{style.prompts}")[:prompts]
        base = self.write([{}])
        self.base = perplexity(self.model, self.tokenizer, base).value
        batches = encode_records(self.model, self.tokenizer, base)[0]
        self.hidden = read_states(self.model, batches).hidden[::4]

    def train(self, examples: list[lmsteer.Example], **options: Any) -> lmsteer.Steer:
        """A steer by the default solver."""
        options = {"balance": self.style.balance, "calibrate": False, **options}
        return lmsteer.train(self.model, self.tokenizer, examples, name="it", **options)

    def write(self, mixes: list[Mapping[lmsteer.Steer, float]]) -> list[lmsteer.Generation]:
        """Sampled text of each mix."""
        return lmsteer.generate(
            self.model,
            self.tokenizer,
            self.prompts,
            strengths=mixes,
            samples=self.samples,
            max_new_tokens=20,
            min_new_tokens=20,
            top_p=0.9,
            batch_size=128,
        )

    def curve(self, steer: lmsteer.Steer, *, domain: bool = False) -> list[dict[str, float]]:
        """Effect and perplexity at each level of divergence."""
        head, grid = read_head(self.model), [s * 2.0**i for s in (-1, 1) for i in range(-3, 9)]
        kl = divergence(head, self.hidden, steer, [0.0, *grid])
        table = [{"strength": s, "kl": value} for s, value in kl.items()]
        rows = []
        for level in LEVELS:
            strengths = [s * strength_at_kl(table, level, s) for s in (-1.0, 1.0)]
            rest = {steer.domain: 1.0} if domain and steer.domain is not None else {}
            mixes = [{steer: s, **rest} for s in strengths]
            records = self.write(mixes)
            parts = [[r for r in records if r.strengths["it"] == s] for s in strengths]
            low, high = (self.style.judge([r.text for r in part]) > 0 for part in parts)
            # The same prompts and samples in both: the difference has its own interval.
            columns = np.stack([high.astype(float) - low, np.ones(len(low))], axis=1)
            gap = bootstrap(columns, lambda s: s[..., 0] / s[..., 1], [r.prompt for r in parts[0]])
            costs = [perplexity(self.model, self.tokenizer, part).value for part in parts]
            rows.append(
                {
                    "kl": level,
                    "minus": strengths[0],
                    "plus": strengths[1],
                    "rate_minus": float(low.mean()),
                    "rate_plus": float(high.mean()),
                    "effect": gap.value,
                    "effect_low": gap.low,
                    "effect_high": gap.high,
                    "perplexity_ratio": float(np.sqrt(costs[0] * costs[1])) / self.base,
                }
            )
        return rows


def effect_at(rows: list[dict[str, float]], ratio: float = AT) -> dict[str, float]:
    """The effect where perplexity passes `ratio`; at the furthest level where it never does."""
    points = [{"perplexity_ratio": 1.0, "effect": 0.0, "effect_low": 0.0, "effect_high": 0.0}]
    for row in rows:
        if row["perplexity_ratio"] >= ratio:
            before = points[-1]
            span = row["perplexity_ratio"] - before["perplexity_ratio"]
            share = (ratio - before["perplexity_ratio"]) / span if span > 0 else 1.0
            return {
                key: before[key] + share * (row[key] - before[key])
                for key in ("effect", "effect_low", "effect_high")
            }
        points.append(row)
    return {key: rows[-1][key] for key in ("effect", "effect_low", "effect_high")}


def draw(examples: list[lmsteer.Example], size: int, seed: int) -> list[lmsteer.Example]:
    """So many texts, half of either sign; neutral ones say nothing about the style."""
    chosen = random.Random(seed)
    sides = [[e for e in examples if s * e.labels[0] > 0] for s in (-1, 1)]
    return [e for side in sides for e in chosen.sample(side, size // 2)]


def variants(part: str, bench: Bench) -> list[tuple[str, int, lmsteer.Steer, bool]]:
    """Name, draw, steer, and whether its domain part is on."""
    every = bench.style.examples
    if part == "data":
        few = [
            (str(size), seed, bench.train(draw(every, size, seed)), False)
            for size in SIZES
            if size
            for seed in range(3)
        ]
        # All of the text has no draws; another salt holds out other texts.
        return few + [
            ("all", seed, bench.train(every, salt=str(seed) if seed else ""), False)
            for seed in range(3)
        ]
    if part == "rank":
        return [(str(rank), 0, bench.train(every, rank=rank), False) for rank in RANKS]
    whole = bench.train(every)
    return [
        ("learned, off", 0, whole, False),
        ("learned, on", 0, whole, True),
        ("not learned", 0, bench.train(every, domain=False), False),
    ]


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=["data", "rank", "domain"])
    parser.add_argument("--style", choices=list(STYLES), default="sentiment")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    args = parser.parse_args()
    bench = Bench(STYLES[args.style](args.data))
    found = []
    for name, seed, steer, domain in variants(args.part, bench):
        rows = bench.curve(steer, domain=domain)
        row = {"variant": name, "draw": seed, "rank": steer.rank, "rows": rows, **effect_at(rows)}
        if "held_out" in steer.record:
            row["held_out"] = steer.record["held_out"]
        found.append(row)
        print(name, seed, steer.rank, round(row["effect"], 3), flush=True)
    _write(args, found)


def _write(args: argparse.Namespace, found: list[dict[str, Any]]) -> None:
    RESULTS.mkdir(exist_ok=True)
    stem = args.part if args.style == "sentiment" else f"{args.part}-{args.style}"
    facts = {"model": "bundled", "style": args.style, "prompts": 50, "samples": 4, **environment()}
    text = json.dumps({"facts": facts, "variants": found}, indent=1)
    (RESULTS / f"{stem}.json").write_text(text + "\n", encoding="utf-8")
    lines = [f"# {args.style}: {args.part}", ""]
    style = "" if args.style == "sentiment" else f" --style {args.style}"
    lines += [f"`python experiments/shipped_steers/efficiency.py {args.part}{style}`, `bundled`."]
    lines += [f"Effect (share at + less share at -) where perplexity is {AT} times the base's.", ""]
    lines += [f"| {args.part} | draw | rank | effect | 95% interval | by KL {LEVELS} |"]
    lines += ["|---|---:|---:|---:|---|---|"]
    for row in found:
        curve = ", ".join(f"{r['effect']:.2f} (x{r['perplexity_ratio']:.2f})" for r in row["rows"])
        lines.append(
            f"| {row['variant']} | {row['draw']} | {row['rank']} | {row['effect']:.3f} | "
            f"[{row['effect_low']:.3f}, {row['effect_high']:.3f}] | {curve} |"
        )
    lines += ["", f"![{stem}]({stem}.png)", ""]
    lines += [f"- {key}: {value}" for key, value in facts.items()]
    (RESULTS / f"{stem}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    plot = pyplot()
    figure, axis = plot.subplots(figsize=(5.2, 3.6))
    names = list(dict.fromkeys(row["variant"] for row in found))
    for name, colour in zip(names, COLOURS * len(names), strict=False):
        for number, row in enumerate(r for r in found if r["variant"] == name):
            axis.plot(
                [1.0, *(r["perplexity_ratio"] for r in row["rows"])],
                [0.0, *(r["effect"] for r in row["rows"])],
                "o-",
                color=colour,
                markersize=3,
                label=None if number else name,
            )
    axis.axvline(AT, color="0.7", linewidth=0.8, zorder=0)
    axis.set_xlabel("perplexity, times the unsteered text's")
    axis.set_ylabel("effect")
    axis.set_title(f"{args.style}: {args.part}", fontsize=11)
    axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(RESULTS / f"{stem}.png", dpi=130)
    plot.close(figure)


if __name__ == "__main__":
    main()
