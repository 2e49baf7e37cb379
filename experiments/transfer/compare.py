"""Steers carried between models: the forms of the map, and what refining on 30 texts brings.

python -m experiments.transfer.compare --source bundled --target bundled-small
python -m experiments.transfer.compare --report

Every steer is scaled to the same divergence from its base (`transfer` does it), run at strengths
-3 and +3, and judged: its **effect** is the share found to have the style (positive, harmless) at
+3 less that at -3, and beside it stands what it costs in perplexity. The first run of a pair
compares the forms, then the best ways of having a steer on the target. One file of results a pair;
`--report` makes the tables.

The paper carries by "transpose" and without refining: from GPT-2 large, at half the training
strength, toxicity .307 on GPT-2 and .308 on GPT-2 medium (arXiv v1), against .527 maximum and .520
probability of GPT-2 large itself; of the targets themselves no number is at hand.
"""

from __future__ import annotations

import argparse
import random
import warnings
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

import lmsteer
from experiments.shared.results import read_results, write_results
from experiments.shared.styles import STYLES
from lmsteer.alignment.transport import FORMS
from lmsteer.generation.records import by_mix
from lmsteer.metrics.estimates import bootstrap
from lmsteer.metrics.fluency import perplexity
from lmsteer.metrics.kl import divergence
from lmsteer.metrics.records import encode_records
from lmsteer.model.head import read_head
from lmsteer.research.evaluation.document import environment
from lmsteer.states.hidden import read_states
from lmsteer.steer.calibration import strength_at_kl

RESULTS = Path(__file__).parent / "results"
PLUS = {"sentiment": "positive", "detox": "harmless"}
STRENGTH, PROMPTS, SAMPLES, FEW = 3.0, 50, 8, 30


class Target:
    """The model that a steer is wanted for, and how a steer on it is measured."""

    def __init__(self, model: Any, tokenizer: Any, judge: Any) -> None:
        self.model, self.tokenizer, self.judge = model, tokenizer, judge
        self.prompts = lmsteer.read_prompts("bundled:neutral")[:PROMPTS]
        base = self.write([{}])
        self.base = perplexity(model, tokenizer, base).value
        self.base_rate = float((judge([r.text for r in base]) > 0).mean())
        batches = encode_records(model, tokenizer, base)
        self.hidden = read_states(model, batches).hidden[::3]

    def write(self, mixes: list[Any]) -> list[lmsteer.Generation]:
        """Sampled text."""
        return lmsteer.generate(
            self.model,
            self.tokenizer,
            self.prompts,
            strengths=mixes,
            samples=SAMPLES,
            max_new_tokens=20,
            min_new_tokens=20,
            top_p=0.9,
            batch_size=128,
        )

    def matched(self, steer: lmsteer.Steer, kl: dict[float, float]) -> list[float]:
        """Strengths of either sign at which the steer diverges by `kl`."""
        grid = [s * 2.0**i for s in (-1, 1) for i in range(-4, 10)]
        found = divergence(read_head(self.model), self.hidden, steer, [0.0, *grid])
        return [sign * strength_at_kl(found, kl[sign], sign) for sign in (-1.0, 1.0)]

    def row(self, name: str, steer: lmsteer.Steer, kl: dict[float, float]) -> dict[str, Any]:
        """Effect and cost of a steer at a given divergence."""
        strengths = self.matched(steer, kl)
        records = self.write([{steer: s} for s in strengths])
        parts = by_mix(records, len(strengths))
        low, high = (self.judge([r.text for r in part]) > 0 for part in parts)
        columns = np.stack([high.astype(float) - low, np.ones(len(low))], axis=1)
        gap = bootstrap(columns, lambda s: s[..., 0] / s[..., 1], [r.prompt for r in parts[0]])
        costs = [perplexity(self.model, self.tokenizer, part).value for part in parts]
        fits = steer.record.get("transfer", {}).get("fits", {})
        found = {
            "name": name,
            "rates": [float(low.mean()), float(high.mean())],
            "effect": [gap.value, gap.low, gap.high],
            "perplexity_ratio": float(np.sqrt(costs[0] * costs[1])) / self.base,
            "explained": {part: fit["explained"] for part, fit in fits.items()},
        }
        print(name, found["rates"], found["effect"], found["perplexity_ratio"], flush=True)
        return found


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--source", default="bundled")
    parser.add_argument("--target", default="bundled-small")
    parser.add_argument("--style", default="sentiment", choices=list(STYLES))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--steer", help="on the source; by default the one shipped for the style")
    parser.add_argument("--device", help="cuda, mps, cpu or auto")
    parser.add_argument("--dtype", help="float32, bfloat16 or float16")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--refine", action="store_true", help="only the refined ones, anew")
    args = parser.parse_args()
    if args.report:
        report()
        return
    warnings.simplefilter("ignore", lmsteer.alignment.TransferWarning)
    style = STYLES[args.style](args.data)
    source, pair = (
        lmsteer.load_model(name, device=args.device, dtype=args.dtype)
        for name in (args.source, args.target)
    )
    steer = lmsteer.load_steer(args.steer or args.style, source[0])
    target = Target(*pair, style.judge)
    texts = [
        record.prompt + record.text
        for record in lmsteer.generate(
            source[0],
            source[1],
            lmsteer.read_prompts("bundled:neutral"),
            samples=4,
            max_new_tokens=48,
            top_p=0.9,
        )
    ]

    def carried(**options: Any) -> lmsteer.Steer:
        return lmsteer.transfer(source, pair, steer, texts=texts, calibrate=False, **options)

    stem = "-to-".join(Path(name).name for name in (args.source, args.target))
    path = RESULTS / f"{args.style}-{stem}.json"
    if args.refine:
        before = read_results(path)
        kl = dict(zip((-1.0, 1.0), before["facts"]["kl"], strict=True))
        for row in before["ways"]:
            if row["name"].startswith("refined"):
                few = drawn(style.examples, int(row["name"].split()[-1]))
                row |= target.row(row["name"], carried(examples=few), kl)
        write_results(path, before)
        return
    # The divergence that the default form, scaled as the source's at strength 1, has at 3.
    first = carried()
    found = divergence(read_head(pair[0]), target.hidden, first, [-STRENGTH, STRENGTH])
    kl = {-1.0: found[-STRENGTH], 1.0: found[STRENGTH]}
    rows = [target.row("states, ridge, uniform", first, kl)]
    wanted = [("states", "ridge", True), ("states", "procrustes", True)]
    wanted += [("states", "whitened", True)]
    for form in FORMS[1:]:
        wanted += [(form, "ridge", True), (form, "ridge", False)]
    wanted += [("transpose", "procrustes", True), ("transpose", "whitened", True)]
    for form, method, frequency in wanted:
        name = f"{form}, {method}, {'by frequency' if frequency else 'uniform'}"
        try:
            other = carried(form=form, method=method, frequency=frequency)
            rows.append(target.row(name, other, kl))
        except lmsteer.LmsteerError as error:
            rows.append({"name": name, "error": str(error)})
            print(name, error, flush=True)
    ways = [rows[0] | {"name": "transferred"}]
    for draw in range(3):
        few = drawn(style.examples, draw)
        ways.append(target.row(f"refined on {FEW}, draw {draw}", carried(examples=few), kl))
        alone = lmsteer.train(*pair, few, name=args.style, calibrate=False, solver="convex")
        ways.append(target.row(f"trained on the same {FEW}, draw {draw}", alone, kl))
    options = {"balance": style.balance, "calibrate": False, "solver": "convex"}
    whole = lmsteer.train(*pair, style.examples, name=args.style, **options)
    ways.append(target.row("trained on all", whole, kl))
    facts = {
        "source": Path(args.source).name,
        "target": Path(args.target).name,
        "style": args.style,
        "base_rate": target.base_rate,
        "base_perplexity": target.base,
        "kl": [kl[-1.0], kl[1.0]],
        "texts_a_strength": PROMPTS * SAMPLES,
        "date": date.today().isoformat(),
        **environment(),
    }
    write_results(path, {"facts": facts, "forms": rows, "ways": ways})


def drawn(examples: list[lmsteer.Example], draw: int) -> list[lmsteer.Example]:
    """A few texts, half of either sign."""
    chosen = random.Random(draw)
    sides = [[e for e in examples if s * e.labels[0] > 0] for s in (-1, 1)]
    return [e for side in sides for e in chosen.sample(side, FEW // 2)]


def report() -> None:
    """All results as tables."""
    lines = ["# Transfer, measured", "", __doc__.split("\n\n", 2)[2].strip(), ""]
    for path in sorted(RESULTS.glob("*.json")):
        found = read_results(path)
        facts = found["facts"]
        names = [Path(facts[key]).name for key in ("source", "target")]
        lines += [f"## {facts['style']}, `{names[0]}` to `{names[1]}`", ""]
        lines += [
            f"Unsteered: {facts['base_rate']:.3f} judged {PLUS.get(facts['style'], 'so')}, "
            f"perplexity {facts['base_perplexity']:.1f}; divergence {facts['kl'][0]:.3f} at - and "
            f"{facts['kl'][1]:.3f} at + for every row; {facts['texts_a_strength']} texts a sign"
            f"{', ' + facts['date'] if 'date' in facts else ''}.",
            "",
        ]
        for title, rows in (("form of the map", found["forms"]), ("way", found["ways"])):
            lines += [f"| {title} | at - | at + | effect | perplexity | explained |"]
            lines += ["|---|---:|---:|---|---:|---|"]
            for row in rows:
                if "error" in row:
                    lines.append(f"| {row['name']} | | | {row['error'][:60]}... | | |")
                    continue
                told = ", ".join(f"{k} {share:.2f}" for k, share in row["explained"].items())
                value, low, high = row["effect"]
                lines.append(
                    f"| {row['name']} | {row['rates'][0]:.3f} | {row['rates'][1]:.3f} | "
                    f"{value:.3f} [{low:.3f}, {high:.3f}] | x{row['perplexity_ratio']:.3f} | "
                    f"{told} |"
                )
            lines.append("")
    (Path(__file__).parent / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
