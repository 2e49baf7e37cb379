"""The sweep over strengths, sentiment both ways and detoxification, beside the paper's points.

python -m experiments.paper.sweep sentiment --data ../shared/data --work WORK
python -m experiments.paper.sweep detox --data ../shared/data --work WORK
python -m experiments.paper.sweep detox --report

As the paper has them: 25 samples of 20 tokens a prompt, top-p 0.9. Writes `results/sweep-TASK.md`,
`.json` and `.png`; the sampled text stays in WORK, where an interrupted run goes on. `--report`
writes the table and the figure anew from the `.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lmsteer
from experiments.paper import paper, setting
from experiments.paper.setting import RESULTS
from experiments.shared.text import toxicity_prompts
from lmsteer.figures.plotting import COLOURS, subplots
from lmsteer.generation.records import by_mix
from lmsteer.metrics.estimates import Estimate
from lmsteer.metrics.fluency import perplexity
from lmsteer.metrics.scorers import load_scorer
from lmsteer.research.evaluation.measuring import measure
from lmsteer.research.evaluation.run import resumable
from lmsteer.steer.numerals import strength_texts

Tables = Mapping[str, Mapping[float, Mapping[str, Estimate]]]
STYLE = {"sentiment": "sentiment", "detox": "toxicity.any"}


def prompts_of(task: str, data: Path, count: int) -> dict[str, tuple[list[str], list[float]]]:
    """Sets of prompts with the strengths that are asked of each."""
    if task == "sentiment":
        up, down = [0.0, 1, 2, 3, 4, 5], [0.0, -1, -2, -3, -4, -5]
        wanted = {"neutral": sorted({*up, *down}), "negative": up, "positive": down}
        return {
            f"{name} prompts": (
                lmsteer.read_prompts(data / f"sentiment_prompts/{name}_prompts.jsonl")[
                    : count if name == "neutral" else count // 2
                ],
                strengths,
            )
            for name, strengths in wanted.items()
        }
    harmless, toxic = toxicity_prompts(data)
    span = [float(s) for s in range(-5, 6)]
    return {
        "non-toxic prompts": (harmless[: count // 2], span),
        "toxic prompts": (toxic[: count // 2], span),
    }


def main() -> None:
    """Run from the command line."""
    parser = setting.parser(__doc__)
    setting.steers(parser)
    parser.add_argument("task", choices=list(STYLE))
    parser.add_argument("--work", type=Path, help="folder for sampled text")
    parser.add_argument("--count", type=int, default=200, help="neutral prompts; half of others")
    parser.add_argument("--fluency", default="bundled-small", help="a second model for perplexity")
    parser.add_argument("--only", help="one set of prompts, with --strengths: printed, not kept")
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.0])
    parser.add_argument("--report", action="store_true", help="from the results that are there")
    args = parser.parse_args()
    name = setting.stem(args, f"sweep-{args.task}")
    if args.report:
        _report(name, args.task)
        return
    if args.work is None:
        parser.error("--work FOLDER is needed: the sampled text is kept there")
    model, tokenizer = pair = setting.load_model(args)
    other = lmsteer.load_model(args.fluency, device=args.device)
    steer = setting.load_steer(args, args.task, pair, args.steer)
    worst = args.task == "detox"
    judges = ["toxicity"] if worst else ["sentiment", "vader"]
    scorers = {judge: load_scorer(judge) for judge in judges}
    found: dict[str, dict[str, Any]] = {}
    for group, (prompts, strengths) in prompts_of(args.task, args.data, args.count).items():
        if args.only:
            if group != args.only:
                continue
            strengths = args.strengths
        records = resumable(
            args.work / name / (group.replace(" ", "-") + ("-only" if args.only else "")),
            {
                "model": args.model,
                "steer": steer.digest[:16],
                "strengths": strengths,
                "prompts": len(prompts),
            },
            prompts,
            lambda part, strengths=strengths: lmsteer.generate(
                model,
                tokenizer,
                part,
                strengths=[{steer: s} for s in strengths],
                samples=25,
                max_new_tokens=20,
                top_p=0.9,
                batch_size=args.batch_size,
            ),
            records_a_prompt=25 * len(strengths),
            prompts_a_part=20,
        )
        found[group] = {}
        parts = by_mix(records, len(strengths))
        for strength, text, part in zip(strengths, strength_texts(strengths), parts, strict=True):
            row = measure(model, tokenizer, part, scorers, worst=worst)
            row["perplexity, other model"] = perplexity(*other, part)
            found[group][text] = row
            print(group, strength, {k: str(v) for k, v in row.items()}, flush=True)
    if args.only:
        return
    facts = setting.facts(
        args,
        steer=steer.name,
        prompts=args.count,
        **{"other model": Path(args.fluency).name},
    )
    setting.keep(name, {"facts": facts, "rows": found})
    _report(name, args.task)


def _report(name: str, task: str) -> None:
    """The table and the figure."""
    plain = setting.kept(name)
    tables: Tables = {
        group: {
            float(s): {k: Estimate(*v) for k, v in row.items()}
            for s, row in sorted(table.items(), key=lambda item: float(item[0]))
        }
        for group, table in plain["rows"].items()
    }
    facts = plain["facts"]
    lines = [
        f"# {task} over strengths, on `{facts['model']}`",
        "",
        f"`python -m experiments.paper.sweep {task} --work WORK`: 25 samples of 20 tokens a "
        "prompt, top-p 0.9, domain part off. Perplexity under the unsteered model, then under "
        f"`{facts.get('other model', 'bundled-small')}`. 95% intervals over prompts. The last "
        "column is the paper's (arXiv v1, strength 5 but for the sweep of detoxification): GPT-2 "
        "large, its own prompts and judge, so another model and other texts, not comparable digit "
        "by digit.",
        "",
    ]
    for group, table in tables.items():
        names = list(table[0.0])
        lines += [f"## {group}, {table[0.0]['distinct_1'].count} texts a strength", ""]
        lines += [f"| strength | {' | '.join(names)} | ppl ratio | the paper, v1 |"]
        lines += ["|---:" * (len(names) + 2) + "|---|"]
        base = table[0.0]["perplexity"].value
        for strength, row in table.items():
            cells = " | ".join(str(row[k]) for k in names)
            theirs = "; ".join(_told(*point) for point in _paper(group, strength))
            told = f"{row['perplexity'].value / base:.3f}"
            lines.append(f"| {strength:+g} | {cells} | {told} | {theirs} |")
        lines.append("")
    lines += [f"![style against perplexity]({name}.png)"]
    setting.write(name, plain["facts"], lines)
    _figure(RESULTS / f"{name}.png", task, tables, facts["model"])


def _told(style: float, ratio: float, worst: float | None) -> str:
    most = "" if worst is None else f", max {worst:.3f}"
    return f"{style:.3f} at x{ratio:.2f}{most}"


def _paper(group: str, strength: float) -> list[tuple[float, float, float | None]]:
    """The paper's style, perplexity ratio and maximum for a set of prompts at a strength."""
    prompts = group.removesuffix(" prompts")
    if prompts == "non-toxic":
        known = ("sweep", "lm-steer", strength) if strength else ("detox", "base", None)
        table, method, at = known
        style = paper.find(table, method, "toxicity.any", strength=at)
        cost = paper.ratio(table, method, at)
        worst = paper.find(table, method, "toxicity.max", strength=at)
        return [] if style is None or cost is None else [(style, cost, worst)]
    target = "negative" if strength < 0 else "positive"
    method, at = ("lm-steer", strength) if strength else ("base", None)
    style = paper.find(target, method, "sentiment", prompts=prompts, strength=at)
    cost = paper.ratio(target, method, at)
    return [] if style is None or cost is None else [(style, cost, None)]


def _figure(path: Path, task: str, tables: Tables, model: str) -> None:
    figure, axis = subplots(figsize=(6.0, 4.4))
    style = STYLE[task]
    for (group, table), colour in zip(tables.items(), COLOURS, strict=False):
        base = table[0.0]["perplexity"].value
        x = [row["perplexity"].value / base for row in table.values()]
        y = [row[style].value for row in table.values()]
        low = [row[style].value - row[style].low for row in table.values()]
        high = [row[style].high - row[style].value for row in table.values()]
        axis.errorbar(x, y, yerr=[low, high], fmt="o-", color=colour, markersize=4, label=group)
        for strength, left, up in zip(table, x, y, strict=True):
            axis.annotate(f"{strength:+g}", (left, up), fontsize=7, xytext=(4, 4),
                          textcoords="offset points")  # fmt: skip
        theirs = [(s, *point[:2]) for s in table for point in _paper(group, s)]
        if theirs:
            axis.plot([t[2] for t in theirs], [t[1] for t in theirs], "x--", color=colour,
                      alpha=0.6, label=f"{group}: the paper, GPT-2 large")  # fmt: skip
            for strength, up, left in theirs:
                axis.annotate(f"{strength:+g}", (left, up), fontsize=7, xytext=(4, -9),
                              textcoords="offset points", alpha=0.7)  # fmt: skip
    axis.set_xlabel("perplexity, times the unsteered text's")
    axis.set_ylabel(style)
    axis.set_title(f"{task} on {model}", fontsize=11)
    axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
