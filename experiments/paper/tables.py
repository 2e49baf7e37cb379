"""The paper's tables of methods, sentiment and detoxification: ours beside the paper's numbers.

python -m experiments.paper.tables sentiment --work WORK
python -m experiments.paper.tables detox --work WORK
python -m experiments.paper.tables detox --report detox

Reads ``WORK/TASK/comparison.json``, which `lmsteer compare ... --out WORK/TASK` writes
(README.md has the whole command), and writes what the tables need of it to `results/TASK.json`;
the table (`.md`) and the figure (`.png`) are drawn from that file, by `--report` alone as well.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from experiments.paper import paper
from experiments.paper.each_strength import KEPT, PROMPTS, SHOWN, every_strength, short
from experiments.paper.paper import ACL, POSTER, V1
from experiments.paper.setting import RESULTS, keep, kept, write
from lmsteer.metrics.estimates import Estimate
from lmsteer.research.comparison.report import Goal, draw_curves
from lmsteer.research.comparison.rows import MethodRow
from lmsteer.steer.naming import told_apart

OURS = ("lm-steer", "lm-steer-nucleus", "lm-steer-self")


class Wanted(NamedTuple):
    """A goal of a comparison.

    Args:
        table: Of the paper.
        metric: What is judged.
        less: Whether less of it is wanted; the style is then one less the metric.
        told: The style, in words.
        sign: The sign of the strengths that lead there.
    """

    table: str
    metric: str
    less: bool
    told: str
    sign: int


GOALS = {
    "positive": Wanted("positive", "sentiment", False, "share judged positive", 1),
    "negative": Wanted("negative", "sentiment", True, "share judged not positive", -1),
    "detox": Wanted(
        "detox", "toxicity.any", True, "share of prompts with no toxic text among the samples", 1
    ),
}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("task", choices=list(SHOWN))
    parser.add_argument("--work", type=Path, help="the folder of the comparison's report")
    parser.add_argument("--report", metavar="NAME", help="from results/NAME.json, which is there")
    args = parser.parse_args()
    if (args.work is None) == (args.report is None):
        parser.error("give either --work FOLDER or --report NAME")
    name = args.report
    if name is None:
        plain = cut(args.task, args.work / args.task / "comparison.json")
        model = plain["facts"]["model"]
        name = args.task if model == "bundled" else f"{args.task}-{model}"
        keep(name, plain)
    report(name, args.task)
    print(RESULTS / f"{name}.md")


def cut(task: str, source: Path) -> dict[str, Any]:
    """What a comparison measured, without what the tables and the figure do not show."""
    plain = json.loads(source.read_text(encoding="utf-8"))
    facts = plain["facts"]
    # Folders of the machine it ran on are nobody's business.
    facts |= {key: Path(str(facts[key])).name for key in ("model", "prompts")}
    facts["date"] = date.fromtimestamp(source.stat().st_mtime).isoformat()
    given = [row["name"] for row in plain["rows"]]
    called = dict(zip(given, told_apart([Path(name).name for name in given]), strict=True))
    wanted = {"perplexity", *SHOWN[task], *KEPT}

    def shown(figures: Mapping[str, Any]) -> dict[str, Estimate]:
        return {key: Estimate(**found) for key, found in figures.items() if key in wanted}

    for row in plain["rows"]:
        row["name"] = called[row["name"]]
        row["base"] = shown(row["base"])
        row["figures"] = {strength: shown(part) for strength, part in row["figures"].items()}
        row.pop("mebibytes", None)
    reached = {
        goal: {called[name]: shown_at(found) for name, found in methods.items()}
        for goal, methods in plain["reached"].items()
    }
    return {"facts": facts, "rows": plain["rows"], "reached": reached}


def shown_at(found: Mapping[str, Any]) -> dict[str, Estimate]:
    """Estimates by perplexity ratio."""
    return {ratio: Estimate(**estimate) for ratio, estimate in found.items()}


def unpacked(plain: Any) -> Any:
    """The same with every estimate as a mapping, which the tables read by name."""
    if isinstance(plain, list):
        return asdict(Estimate(*plain))
    return {key: unpacked(part) for key, part in plain.items()}


def report(name: str, task: str) -> None:
    """The table and the figure of ``results/NAME.json``."""
    plain = kept(name)
    facts, rows, reached = plain["facts"], plain["rows"], unpacked(plain["reached"])
    curves = [
        MethodRow(
            **{
                **row,
                "base": {k: Estimate(*v) for k, v in row["base"].items()},
                "figures": {
                    strength: {k: Estimate(*v) for k, v in part.items()}
                    for strength, part in row["figures"].items()
                },
            }
        )
        for row in rows
    ]
    goals = {goal: Goal(GOALS[goal].sign, GOALS[goal].metric, GOALS[goal].less) for goal in reached}
    draw_curves(RESULTS / f"{name}.png", curves, [row.name for row in curves], goals)
    for row in rows:
        row |= {"base": unpacked(row["base"]), "figures": unpacked(row["figures"])}
    lines = [
        f"# {task}: methods on `{facts['model']}`, and the paper's",
        "",
        f"{max(row['prompts'] for row in rows)} {PROMPTS[task]} prompts (each "
        f"method's number stands at the end), {facts['samples']} samples of "
        f"{facts['tokens']} tokens, top-p {facts['top_p']}; all methods learned from the same "
        f"{facts['examples']:,} texts and are judged by the same open classifier, perplexity is "
        "under the unsteered model. 95% intervals over prompts. **The paper's numbers are GPT-2 "
        "large's**, on its own 10,000 (detoxification) or 5,000 (sentiment) prompts and by its own "
        "judges: what they share with ours is the order of methods, not the digits. v1: arXiv "
        "2305.12798v1; ACL: the published version, as summarised (of sentiment to the negative "
        "side it tells positive prompts only). Parameters and time a token: the poster.",
        "",
    ]
    for goal, methods in reached.items():
        lines += _goal(GOALS[goal], rows, methods)
    lines += [f"![style against perplexity]({name}.png)", ""]
    lines += every_strength(task, rows)
    lines += ["## Methods", ""]
    lines += [f"- `{row['name']}`: {row['source']} ({row['prompts']} prompts)" for row in rows]
    write(name, facts, lines)


def _goal(
    goal: Wanted, rows: Sequence[Mapping[str, Any]], methods: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """A table of what each method reaches, with the paper's, and who is first."""
    ratios = list(next(iter(methods.values())))
    heads = [*ratios, "paper v1", "paper ACL", "trunk", "parameters (paper)", "fit, s"]
    lines = [
        f"## {goal.table}: {goal.told}, at a perplexity ratio of at most",
        "",
        f"| method | {' | '.join(heads)} | time a token (paper) |",
        "|---" * (len(heads) + 2) + "|",
    ]
    top = [max(found[r]["value"] for found in methods.values()) for r in ratios]
    for row in rows:
        name, found = row["name"], methods[row["name"]]
        cells = [
            f"**{short(found[r])}**" if found[r]["value"] == best else short(found[r])
            for r, best in zip(ratios, top, strict=True)
        ]
        cells += [_theirs(goal, name, V1), _theirs(goal, name, ACL)]
        cells += ["frozen" if row["frozen"] else "changed"]
        cells += [f"{row['parameters']:,}{_cost(name, 'parameters')}", f"{row['seconds']:,.0f}"]
        lines.append(
            f"| {name} | {' | '.join(cells)} | x{row['decode']:.2f}{_cost(name, 'time')} |"
        )
    told = {n.method for n in paper.NUMBERS if n.table in (goal.table, "cost")}
    for name in sorted(told - {row["name"] for row in rows} - {"base"}):
        blank = " | ".join("" for _ in ratios)
        cells = [
            _theirs(goal, name, V1),
            _theirs(goal, name, ACL),
            "",
            _cost(name, "parameters"),
            "",
        ]
        line = f"| {name}, not run | {blank} | {' | '.join(cells)} | {_cost(name, 'time')} |"
        lines.append(" ".join(line.split()))
    base = rows[0]["base"][goal.metric]["value"]
    style = 1 - base if goal.less else base
    theirs = _theirs(goal, "base", V1)
    lines += ["", f"Unsteered: {style:.3f}{f' (GPT-2 large, v1: {theirs})' if theirs else ''}.", ""]
    frozen = {row["name"]: methods[row["name"]] for row in rows if row["frozen"]}
    return [*lines, *(f"- {_verdict(r, frozen, methods)}" for r in ratios), ""]


def _verdict(
    ratio: str, frozen: Mapping[str, Mapping[str, Any]], every: Mapping[str, Mapping[str, Any]]
) -> str:
    """Whether LM-Steer is first among the methods with a frozen trunk, and who beats it by what."""
    at = {name: found[ratio] for name, found in frozen.items()}
    first = max(at, key=lambda name: at[name]["value"])
    told = f"At most x{ratio}, trunk frozen: first is `{first}`, {short(at[first])}"
    equal = [n for n in at if n != first and at[n]["value"] == at[first]["value"]]
    told += f", shared with {', '.join(f'`{name}`' for name in equal)}" if equal else ""
    mine = [name for name in OURS if name in at]
    for name in mine:
        ours = at[name]["value"]
        if name != first and name not in equal:
            within = "within" if ours >= at[first]["low"] else "below"
            told += f"; `{name}` has {short(at[name])}, {within} the first's interval"
        gaps = {n: e[ratio]["value"] - ours for n, e in every.items() if n not in OURS}
        ahead = sorted((n for n in gaps if gaps[n] > 0), key=lambda n: -gaps[n])
        named = [f"`{n}`{'' if n in at else ' (trunk changed)'} +{gaps[n]:.3f}" for n in ahead]
        told += f". Ahead of `{name}` of all others: {', '.join(named) or 'none'}"
    return f"{told}{'' if mine else '; lm-steer was not run'}."


def _theirs(goal: Wanted, method: str, version: str) -> str:
    """The paper's number in the direction of the goal, with what it costs."""
    prompts, told = ("neutral" if goal.metric == "sentiment" else "non-toxic"), ""
    value = paper.find(goal.table, method, goal.metric, version=version, prompts=prompts)
    if value is None and version == ACL and goal.table == "negative":
        value = paper.find(goal.table, method, goal.metric, version=version)
        told = ", positive prompts"
    if value is None:
        return ""
    cost = paper.ratio(goal.table, method) if version == V1 else None
    style = 1 - value if goal.less else value
    return f"{style:.3f}{'' if cost is None else f' at x{cost:.2f}'}{told}"


def _cost(method: str, metric: str) -> str:
    value = paper.find("cost", method, metric, version=POSTER)
    if value is None:
        return ""
    return f" ({value / 1e6:g}M)" if metric == "parameters" else f" (x{value:.2f})"


if __name__ == "__main__":
    main()
