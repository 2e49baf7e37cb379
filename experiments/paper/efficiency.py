"""How much text and how many directions a steer needs, and what its domain part is worth.

python -m experiments.paper.efficiency data --data ../shared/data
python -m experiments.paper.efficiency rank --data ../shared/data
python -m experiments.paper.efficiency domain --data ../shared/data

Steers of different sizes cannot be compared at one strength. Each is run at the strengths, of both
signs, where it is 0.05 to 0.4 nats a token away from its base (exact, on unsteered text); its
**effect** is the share judged to have the style at + less that at -, and where the mean perplexity
of both signs passes 1.15 times the unsteered text's is read off between neighbours.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping
from typing import Any

import numpy as np

import lmsteer
from experiments.paper import paper, setting
from experiments.paper.setting import RESULTS
from experiments.shared.styles import STYLES, Style
from lmsteer.figures.plotting import COLOURS, subplots
from lmsteer.generation.records import by_mix
from lmsteer.metrics.estimates import bootstrap
from lmsteer.metrics.fluency import perplexity
from lmsteer.metrics.kl import divergence
from lmsteer.metrics.records import encode_records
from lmsteer.model.head import read_head
from lmsteer.states.hidden import read_states
from lmsteer.steer.calibration import strength_at_kl

LEVELS = (0.05, 0.15, 0.4)
AT = 1.15
SIZES = (4, 10, 30, 100, 300, 1000, None)
RANKS = (1, 4, 16, 64)


class Bench:
    """One model, its prompts, and its unsteered text."""

    def __init__(self, pair: Any, style: Style, prompts: int, samples: int, rows: int) -> None:
        self.model, self.tokenizer = pair
        self.style, self.samples, self.batch_size = style, samples, rows
        self.prompts = lmsteer.read_prompts(f"bundled:{style.prompts}")[:prompts]
        base = self.write([{}])
        self.base = perplexity(self.model, self.tokenizer, base).value
        batches = encode_records(self.model, self.tokenizer, base)
        self.hidden = read_states(self.model, batches).hidden[::4]

    def train(self, examples: list[lmsteer.Example], **options: Any) -> lmsteer.Steer:
        """A steer by the solver convex."""
        fixed = {"balance": self.style.balance, "calibrate": False, "solver": "convex"}
        options = {**fixed, **options}
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
            batch_size=self.batch_size,
        )

    def curve(self, steer: lmsteer.Steer, *, domain: bool = False) -> list[dict[str, float]]:
        """Effect and perplexity at each level of divergence."""
        head, grid = read_head(self.model), [s * 2.0**i for s in (-1, 1) for i in range(-3, 9)]
        kl = divergence(head, self.hidden, steer, [0.0, *grid])
        rows = []
        for level in LEVELS:
            strengths = [s * strength_at_kl(kl, level, s) for s in (-1.0, 1.0)]
            rest = {steer.domain: 1.0} if domain and steer.domain is not None else {}
            mixes = [{steer: s, **rest} for s in strengths]
            records = self.write(mixes)
            parts = by_mix(records, len(mixes))
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
        ranks = [*RANKS, read_head(bench.model).weight.shape[1]]
        return [(str(rank), 0, bench.train(every, rank=rank), False) for rank in ranks]
    whole = bench.train(every)
    return [
        ("learned, off", 0, whole, False),
        ("learned, on", 0, whole, True),
        ("not learned", 0, bench.train(every, domain=False), False),
    ]


def main() -> None:
    """Run from the command line."""
    parser = setting.parser(__doc__)
    parser.add_argument("part", choices=["data", "rank", "domain"])
    parser.add_argument("--style", choices=list(STYLES), default="sentiment")
    parser.add_argument("--prompts", type=int, default=50)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--report", action="store_true", help="from the results that are there")
    args = parser.parse_args()
    name = args.part if args.style == "sentiment" else f"{args.part}-{args.style}"
    name = setting.stem(args, name)
    if args.report:
        _report(args, name)
        return
    bench = Bench(
        setting.load_model(args),
        STYLES[args.style](args.data),
        args.prompts,
        args.samples,
        args.batch_size,
    )
    found = []
    for variant, seed, steer, domain in variants(args.part, bench):
        rows = bench.curve(steer, domain=domain)
        row = {
            "variant": variant,
            "draw": seed,
            "rank": steer.rank,
            "rows": [{key: row[key] for key in ("effect", "perplexity_ratio")} for row in rows],
            **effect_at(rows),
        }
        found.append(row)
        print(variant, seed, steer.rank, round(row["effect"], 3), flush=True)
    facts = setting.facts(args, style=args.style, prompts=len(bench.prompts), samples=bench.samples)
    setting.keep(name, {"facts": facts, "variants": found})
    _report(args, name)


def _paper(part: str) -> str:
    """What the paper tells of it."""
    steer = paper.find("cost", "lm-steer", "parameters", version=paper.ACL)
    lora = paper.find("cost", "lora", "parameters", version=paper.ACL)
    if part == "rank" and steer and lora:
        return (
            f"The paper (ACL, as summarised; GPT-2 large): {steer / 1e6:g}M parameters, 0.2% of "
            f"the model, where LoRA has {lora / 1e6:g}M; the official recipe has rank 1,000 and no "
            "other is told. Ours: 2 x rank x dim."
        )
    if part == "data":
        return "The paper (arXiv v1; GPT-2 large): 30 examples already work, without a number."
    return "The paper learns the domain part and keeps it on; it has no table of it."


def _report(args: argparse.Namespace, name: str) -> None:
    """The table and the figure."""
    plain = setting.kept(name)
    found, facts = plain["variants"], plain["facts"]
    lines = [f"# {facts['style']}: {args.part}", ""]
    style = "" if facts["style"] == "sentiment" else f" --style {facts['style']}"
    told = f"`python -m experiments.paper.efficiency {args.part}{style}`, `{facts['model']}`."
    lines += [f"{told} {_paper(args.part)}"]
    lines += [f"Effect (share at + less share at -) where perplexity is {AT} times the base's.", ""]
    lines += [f"| {args.part} | draw | rank | effect | 95% interval | by KL {LEVELS} |"]
    lines += ["|---|---:|---:|---:|---|---|"]
    for row in found:
        curve = ", ".join(f"{r['effect']:.2f} (x{r['perplexity_ratio']:.2f})" for r in row["rows"])
        lines.append(
            f"| {row['variant']} | {row['draw']} | {row['rank']} | {row['effect']:.3f} | "
            f"[{row['effect_low']:.3f}, {row['effect_high']:.3f}] | {curve} |"
        )
    lines += ["", f"![{name}]({name}.png)"]
    setting.write(name, facts, lines)
    figure, axis = subplots(figsize=(5.2, 3.6))
    names = list(dict.fromkeys(row["variant"] for row in found))
    for variant, colour in zip(names, COLOURS * len(names), strict=False):
        for number, row in enumerate(r for r in found if r["variant"] == variant):
            axis.plot(
                [1.0, *(r["perplexity_ratio"] for r in row["rows"])],
                [0.0, *(r["effect"] for r in row["rows"])],
                "o-",
                color=colour,
                markersize=3,
                label=None if number else variant,
            )
    axis.axvline(AT, color="0.7", linewidth=0.8, zorder=0)
    axis.set_xlabel("perplexity, times the unsteered text's")
    axis.set_ylabel("effect")
    axis.set_title(f"{facts['style']}: {args.part}, {facts['model']}", fontsize=11)
    axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(RESULTS / f"{name}.png", dpi=130)


if __name__ == "__main__":
    main()
