"""The paper's two tables, sentiment and detoxification, on the bundled model.

python experiments/shipped_steers/tables.py sentiment --data ../shared/data --work WORK
python experiments/shipped_steers/tables.py detox --data ../shared/data --work WORK

As the paper has them: 25 samples of 20 tokens a prompt, top-p 0.9. Writes `results/NAME.md`,
`.json` and `.png`; the sampled text stays in WORK, where an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from styles import rows

import lmsteer
from lmsteer.evaluation import environment, measure, resumable, tradeoff_figure
from lmsteer.metrics import Estimate, load_scorer, perplexity

RESULTS = Path(__file__).parent / "results"
# Figures of arXiv 2305.12798 v1, GPT-2 large, 10k prompts (shared names of rows and columns).
PAPER = {
    "sentiment": {
        "neutral prompts": {"+5": "90.70% at x1.41", "0": "50.02%", "-5": "8.02% at x1.97"},
        "negative prompts": {"+5": "41.23% at x1.41", "0": "0.00%"},
        "positive prompts": {"-5": "54.84% at x1.97"},
    },
    "detox": {
        "non-toxic prompts": {
            "0": ".520 (max .527, ppl 25.45)",
            "+1": ".166 (max .322, ppl 22.42)",
            "+2": ".146 (max .293, ppl 23.43)",
            "+3": ".104 (max .268, ppl 24.48)",
            "+4": ".096 (max .246, ppl 25.85)",
            "+5": ".089 (max .249, ppl 28.26)",
        }
    },
}


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
    # Even records: the scorer learned from the odd ones.
    records = list(rows(data / "real_toxicity_prompts/rtp_val_5000.jsonl"))[::2]
    scored = [r["prompt"] for r in records if r["prompt"].get("toxicity") is not None]
    span = [float(s) for s in range(-5, 6)]
    return {
        "non-toxic prompts": (
            [p["text"] for p in scored if p["toxicity"] < 0.5][: count // 2],
            span,
        ),
        "toxic prompts": ([p["text"] for p in scored if p["toxicity"] >= 0.5][: count // 2], span),
    }


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("task", choices=["sentiment", "detox"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--only", help="one set of prompts, with --strengths: printed, not kept")
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.0])
    args = parser.parse_args()
    model, tokenizer = lmsteer.load_model(args.model)
    other, other_tokenizer = lmsteer.load_model("bundled-small")
    steer = lmsteer.load_steer(args.task, model)
    worst = args.task == "detox"
    scorers = {"toxicity": load_scorer("toxicity")} if worst else {}
    if not worst:
        scorers = {name: load_scorer(name) for name in ("sentiment", "vader")}
    found: dict[str, dict[float, dict[str, Estimate]]] = {}
    for name, (prompts, strengths) in prompts_of(args.task, args.data, args.count).items():
        if args.only:
            if name != args.only:
                continue
            strengths = args.strengths
        records = resumable(
            args.work / args.task / (name.replace(" ", "-") + ("-only" if args.only else "")),
            {"model": args.model, "strengths": strengths, "prompts": len(prompts)},
            prompts,
            lambda part, strengths=strengths: lmsteer.generate(
                model,
                tokenizer,
                part,
                strengths=[{steer: s} for s in strengths],
                samples=25,
                max_new_tokens=20,
                top_p=0.9,
                batch_size=128,
            ),
            records_a_prompt=25 * len(strengths),
            prompts_a_part=20,
        )
        found[name] = {}
        for strength in strengths:
            part = [r for r in records if r.strengths[steer.name] == strength]
            row = measure(model, tokenizer, part, scorers, worst=worst)
            row["perplexity, other model"] = perplexity(other, other_tokenizer, part)
            found[name][strength] = row
            print(name, strength, {k: str(v) for k, v in row.items()}, flush=True)
    if not args.only:
        _write(args, found, "toxicity.any" if worst else "sentiment")


def _write(
    args: argparse.Namespace, found: Mapping[str, Mapping[float, dict[str, Estimate]]], style: str
) -> None:
    RESULTS.mkdir(exist_ok=True)
    facts = {"model": args.model, "steer": args.task, "prompts": args.count, **environment()}
    plain = {
        name: {f"{s:+g}": {k: asdict(v) for k, v in row.items()} for s, row in table.items()}
        for name, table in found.items()
    }
    text = json.dumps({"facts": facts, "rows": plain}, indent=1)
    (RESULTS / f"{args.task}.json").write_text(text + "\n", encoding="utf-8")
    lines = [f"# {args.task} on `{args.model}`", ""]
    lines += [
        f"`python experiments/shipped_steers/tables.py {args.task} --work WORK`: 25 samples of 20 "
        "tokens a prompt, top-p 0.9, domain part off. Perplexity under the unsteered model, then "
        "under `bundled-small`, which learned from the same kinds of text. 95% intervals over "
        "prompts. The paper's column is GPT-2 large on its own prompts and judge (arXiv v1): "
        "another model, other texts, not comparable digit by digit.",
        "",
    ]
    for name, table in found.items():
        names = list(table[0.0])
        lines += [f"## {name}, {table[0.0]['distinct_1'].count} texts a strength", ""]
        lines += [f"| strength | {' | '.join(names)} | ppl ratio | paper |"]
        lines += ["|---:" * (len(names) + 2) + "|---|"]
        base = table[0.0]["perplexity"].value
        for strength, row in sorted(table.items()):
            paper = PAPER[args.task].get(name, {}).get(f"{strength:+g}" if strength else "0", "")
            cells = " | ".join(str(row[k]) for k in names)
            ratio = row["perplexity"].value / base
            lines.append(f"| {strength:+g} | {cells} | {ratio:.3f} | {paper} |")
        lines.append("")
    lines += [f"![style against perplexity]({args.task}.png)", ""]
    lines += [f"- {key}: {value}" for key, value in facts.items()]
    (RESULTS / f"{args.task}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    groups: dict[str, Any] = {
        name: [(f"{s:+g}", row) for s, row in sorted(table.items())]
        for name, table in found.items()
    }
    tradeoff_figure(RESULTS / f"{args.task}.png", groups, style, f"{args.task} on {args.model}")


if __name__ == "__main__":
    main()
