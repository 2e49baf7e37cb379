"""Two steers at once: does each dial do its own work at every setting of the other?

python -m experiments.paper.composition --data ../shared/data
python -m experiments.paper.composition --report

The paper adds the maps of sentiment and of detoxification, each at its strength. Here every pair of
strengths is measured: style by each steer's scorer, and perplexity. `lmsteer grid` shows the same
for any two steers and scorers.
"""

from __future__ import annotations

import lmsteer
from experiments.paper import setting
from lmsteer.figures.evaluation import grid_figure
from lmsteer.metrics.estimates import Estimate
from lmsteer.metrics.scorers import load_scorer
from lmsteer.research.evaluation.measuring import measure

STYLES = ("sentiment", "detox")
SCORERS = ("sentiment", "toxicity")
SHOWN = [*SCORERS, "perplexity"]
STRENGTHS = (-4.0, -2.0, 0.0, 2.0, 4.0)


def main() -> None:
    """Run from the command line."""
    parser = setting.parser(__doc__)
    setting.steers(parser, len(STYLES))
    parser.add_argument("--count", type=int, default=50, help="neutral prompts")
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--report", action="store_true", help="from the results that are there")
    args = parser.parse_args()
    if args.report:
        _report(setting.stem(args, "composition"))
        return
    model, tokenizer = pair = setting.load_model(args)
    names = args.steer or (None, None)
    one, other = (
        setting.load_steer(args, style, pair, name)
        for style, name in zip(STYLES, names, strict=True)
    )
    scorers = {name: load_scorer(name) for name in SCORERS}
    prompts = lmsteer.read_prompts("bundled:neutral")[: args.count]
    rows = []
    for b in STRENGTHS:
        for a in STRENGTHS:
            records = lmsteer.generate(
                model,
                tokenizer,
                prompts,
                strengths=[{one: a, other: b}],
                samples=args.samples,
                max_new_tokens=20,
                top_p=0.9,
                batch_size=args.batch_size,
            )
            row = measure(model, tokenizer, records, scorers)
            rows.append({STYLES[0]: a, STYLES[1]: b, "figures": {k: row[k] for k in SHOWN}})
            print(a, b, {k: str(row[k]) for k in SHOWN}, flush=True)
    cosine = lmsteer.steer.interference(one, other)
    facts = setting.facts(args, prompts=len(prompts), samples=args.samples, cosine=f"{cosine:+.4f}")
    name = setting.stem(args, "composition")
    setting.keep(name, {"facts": facts, "rows": rows})
    _report(name)


def _report(name: str) -> None:
    """The table and the figure."""
    plain = setting.kept(name)
    facts = plain["facts"]
    figures = {
        (row[STYLES[0]], row[STYLES[1]]): {k: Estimate(*v) for k, v in row["figures"].items()}
        for row in plain["rows"]
    }
    lines_of = [[figures[a, b] for a in STRENGTHS] for b in STRENGTHS]
    cosine = float(facts["cosine"])
    lines = [
        f"# Sentiment and detoxification at once, on `{facts['model']}`",
        "",
        f"`python -m experiments.paper.composition`: {facts['prompts'] * facts['samples']} texts "
        "of 20 tokens a pair of strengths, neutral prompts, the sum of the maps. The cosine of the "
        f"maps is {cosine:+.3f}. The paper shows its own as a figure, without numbers that are at "
        "hand; "
        "what it claims is that both styles move by their own strength.",
    ]
    for shown in SHOWN:
        told = {"sentiment": "judged positive", "toxicity": "judged toxic"}.get(shown, shown)
        lines += ["", f"## {told}", ""]
        lines += [f"| detox \\ sentiment | {' | '.join(f'{a:+g}' for a in STRENGTHS)} |"]
        lines += ["|---:" * (len(STRENGTHS) + 1) + "|"]
        for b, line in zip(reversed(STRENGTHS), reversed(lines_of), strict=True):
            cells = " | ".join(str(row[shown]) for row in line)
            lines.append(f"| {b:+g} | {cells} |")
    lines += ["", f"![every pair]({name}.png)"]
    setting.write(name, facts, lines)
    grid_figure(setting.RESULTS / f"{name}.png", STYLES, (STRENGTHS, STRENGTHS), lines_of, SHOWN)


if __name__ == "__main__":
    main()
