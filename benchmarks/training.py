"""Training a steer: the official recipe as its authors run it, against ours, in one run.

Each arm runs in a process of its own, so that its peak memory is its own; arms that are quick run
again between the slow ones, and their medians are quoted.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from typing import Any

import torch

import lmsteer
from lmsteer.model.head import read_head
from lmsteer.states.hidden import read_states
from lmsteer.text.encoding import encode
from lmsteer.text.split import split_held_out
from lmsteer.training.objective import mean_nll
from lmsteer.training.solvers.paper import RECIPE, follow
from lmsteer.training.solvers.problem import JUDGED_ON

from .memory import expected_peak, peak_of
from .memory import load as load_named

LONGEST = 256  # tokens of a text, the recipe's
Loaded = tuple[Any, Any, list[lmsteer.Example]]


def load(args: argparse.Namespace) -> Loaded:
    """The model, and the text to learn from in canonical order."""
    model, tokenizer = load_named(args.model)
    scale = tuple(args.scale) if args.scale else None
    examples = lmsteer.read_examples(args.data, label=args.label, scale=scale)
    return model, tokenizer, sorted(examples, key=lambda e: e.digest)


def recipe(args: argparse.Namespace, loaded: Loaded, *, bucketed: bool) -> dict[str, Any]:
    """The official recipe; `bucketed` makes batches of texts of like length, which it does not."""
    model, tokenizer, examples = loaded
    encoded = encode(tokenizer, examples, max_length=LONGEST)
    kept, tested = split_held_out([examples[i] for i in encoded.source], 0.1)
    head = read_head(model)
    # The very tokens that our solvers' courses are judged on.
    held_out = read_states(model, encoded.only(tested), fast=True).spread(JUDGED_ON)
    if bucketed:
        kept = sorted(kept, key=lambda i: len(encoded.ids[i]))
        kept = [i for part in _shuffled_parts(kept, RECIPE.batch) for i in part]
    _, course = follow(
        model,
        head,
        encoded,
        kept,
        held_out,
        domain=True,
        steps=args.steps,
        seed=0,
        progress=None,
        shuffle=not bucketed,
    )
    points = course["held_out_nll"]
    return {
        "seconds": points[-1][0],
        "course": points,
        "nll_base": mean_nll(head, held_out, None),
        "tokens": int(encoded.target_counts.sum()),
    }


def _shuffled_parts(items: list[int], size: int) -> list[list[int]]:
    parts = [items[i : i + size] for i in range(0, len(items), size)]
    order = torch.randperm(len(parts), generator=torch.Generator().manual_seed(0))
    return [parts[i] for i in order]


def ours(loaded: Loaded, solver: str) -> dict[str, Any]:
    """One of our solvers, from labelled text to a steer, calibration left out."""
    model, tokenizer, examples = loaded
    steer = lmsteer.train(
        model, tokenizer, examples, solver=solver, max_length=LONGEST, calibrate=False
    )
    record = steer.record
    return {
        "seconds": record["seconds"],
        "course": record["course"]["held_out_nll"],
        "nll_base": record["held_out"]["nll_base"],
        "tokens": record["data"]["tokens"],
        "rank": record["rank"],
        "final_nll": record["held_out"]["nll"],
        "peak_expected_mb": round(
            expected_peak(
                model,
                record["data"]["tokens"],
                parts=2,
                fast=record["fast"],
                summed=record["solver"] == "newton",
            )
            / 2**20
        ),
    }


def one_pass(loaded: Loaded) -> dict[str, Any]:
    """The physical limit: trunk and head once over the same tokens, as fast as we can."""
    model, tokenizer, examples = loaded
    encoded = encode(tokenizer, examples, max_length=LONGEST)
    head = read_head(model).fast()
    begun = time.perf_counter()
    states = read_states(model, encoded, fast=True)
    mean_nll(head, states, None)
    return {"seconds": time.perf_counter() - begun, "tokens": len(states)}


ARMS = {
    "paper": lambda args, loaded: recipe(args, loaded, bucketed=False),
    "paper, length buckets": lambda args, loaded: recipe(args, loaded, bucketed=True),
    "cached": lambda args, loaded: ours(loaded, "cached"),
    "convex": lambda args, loaded: ours(loaded, "convex"),
    "one pass": lambda args, loaded: one_pass(loaded),
}
QUICK = ("cached", "convex", "one pass")


def run_arm(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """The arm in this process, with its peak memory beyond the loaded model."""
    loaded = load(args)
    found, peak = peak_of(lambda: ARMS[name](args, loaded))
    return {**found, "peak_mb": peak}


def run(args: argparse.Namespace) -> None:
    """All arms, in turn; prints JSON, and a table for Markdown."""
    slow = [] if args.quick_only else ["paper", "paper, length buckets"]
    # The quick ones before, between and after the slow ones.
    order = [*QUICK]
    for number, name in enumerate(slow):
        order += [name, *(QUICK if number + 1 < args.repeats else ())]
    order += [*QUICK] * (args.repeats - 1 - min(len(slow), args.repeats - 1))
    found: dict[str, list[dict[str, Any]]] = {}
    for name in order:
        print(f"running: {name}", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "benchmarks", *sys.argv[1:], "--arm", name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found.setdefault(name, []).append(json.loads(done.stdout.strip().split("\n")[-1]))
    print(json.dumps(summary(found, args), indent=1))


def summary(found: dict[str, list[dict[str, Any]]], args: argparse.Namespace) -> dict[str, Any]:
    """Medians, and time to the recipe's best held-out NLL."""
    rows: dict[str, Any] = {}
    paper = found.get("paper")
    goal = min(nll for _, _, nll in paper[0]["course"]) if paper else None
    limit = statistics.median(one["seconds"] for one in found["one pass"])
    for name, runs in found.items():
        seconds = statistics.median(one["seconds"] for one in runs)
        row: dict[str, Any] = {
            "runs": len(runs),
            "seconds": round(seconds, 2),
            "passes": round(seconds / limit, 2),
            "peak_mb": runs[0]["peak_mb"],
            "tokens_a_second": round(runs[0]["tokens"] / seconds),
        }
        if "peak_expected_mb" in runs[0]:
            row["peak_expected_mb"] = runs[0]["peak_expected_mb"]
            row["final_nll"] = round(runs[0]["final_nll"], 4)
        if "course" in runs[0]:
            row["best_nll"] = round(min(nll for _, _, nll in runs[0]["course"]), 4)
            if goal is not None:
                reached = [_reached(one["course"], goal) for one in runs]
                row["to_goal"] = None if None in reached else round(statistics.median(reached), 2)
        rows[name] = row
    return {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "model": args.model,
        "steps_of_the_recipe": args.steps,
        "nll_base": round(found["convex"][0]["nll_base"], 4),
        "goal_nll": goal and round(goal, 4),
        "arms": rows,
    }


def _reached(course: list[list[float]], goal: float) -> float | None:
    return next((seconds for seconds, _, nll in course if nll <= goal), None)
