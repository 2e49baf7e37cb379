"""What the scripts of this folder share: the model, the steers, where results go, their facts."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import lmsteer
from experiments.shared.results import read_results, write_results
from experiments.shared.styles import STYLES, Style
from lmsteer.research.evaluation.document import environment

RESULTS = Path(__file__).parent / "results"


def parser(text: str | None) -> argparse.ArgumentParser:
    """Options that every script has."""
    found = argparse.ArgumentParser(description=(text or "").split("\n")[0])
    found.add_argument("--model", default="bundled", help="bundled, a local folder or a Hub id")
    found.add_argument("--device", help="cuda, mps, cpu or auto")
    found.add_argument("--dtype", help="float32, bfloat16 or float16; the checkpoint's by default")
    found.add_argument("--batch-size", type=int, default=128, help="rows computed at once")
    found.add_argument("--data", type=Path, default=Path("../shared/data"))
    return found


def steers(found: argparse.ArgumentParser, count: str | int | None = None) -> None:
    """The options of steers, one or `count`."""
    found.add_argument("--steer", nargs=count, help="folder or name; by default the style's name")
    found.add_argument("--train", action="store_true", help="train it here, by the defaults")


def load_model(args: argparse.Namespace) -> Any:
    """``(model, tokenizer)``."""
    return lmsteer.load_model(args.model, device=args.device, dtype=args.dtype)


def load_steer(
    args: argparse.Namespace, style: str, pair: Any, name: str | None = None
) -> lmsteer.Steer:
    """The steer of a style: trained here, at `name`, or shipped under the style's name."""
    if args.train:
        told = STYLES[style](args.data)
        return train(pair, told, style)
    try:
        return lmsteer.load_steer(name or style, pair[0])
    except lmsteer.LmsteerError as error:
        raise SystemExit(f"{error}\n(or --train: learn it here from --data)") from error


def train(pair: Any, style: Style, name: str) -> lmsteer.Steer:
    """By the default solver."""
    options = {"balance": style.balance, "calibrate": False, "solver": "convex"}
    return lmsteer.train(*pair, style.examples, name=name, **options)


def facts(args: argparse.Namespace, **more: Any) -> dict[str, Any]:
    """The model, what was asked, when, and on what machine; folders by their last name."""
    return {
        "model": Path(args.model).name,
        **more,
        "date": date.today().isoformat(),
        **environment(),
    }


def stem(args: argparse.Namespace, name: str) -> str:
    """Results of another model than the bundled one have its name."""
    return name if args.model == "bundled" else f"{name}-{Path(args.model).name}"


def keep(name: str, plain: Mapping[str, Any]) -> None:
    """Write ``results/NAME.json``, which the table and the figure are drawn from."""
    write_results(RESULTS / f"{name}.json", plain)


def kept(name: str) -> dict[str, Any]:
    """Read what `keep` wrote."""
    return read_results(RESULTS / f"{name}.json")


def write(name: str, facts: Mapping[str, Any], lines: list[str]) -> None:
    """Write ``results/NAME.md``, with the facts at its end."""
    told = [*lines, "", *(f"- {key}: {value}" for key, value in facts.items())]
    (RESULTS / f"{name}.md").write_text("\n".join(told) + "\n", encoding="utf-8")
