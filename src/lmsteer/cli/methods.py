"""`lmsteer evaluate --methods`: any methods of control on one model, examples and prompts."""

from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..text import read_examples, read_prompts
from .display import escape, out, print_json, progress_bars

if TYPE_CHECKING:
    from ..metrics import Scorer
    from ..research.comparison import MethodRow


def compare_methods(
    model: Any,
    tokenizer: Any,
    methods: str,
    scorers: dict[str, Scorer],
    *,
    learn: str | None,
    prompts: list[str],
    given: tuple[Path | None, Path | None],
    settings: dict[str, Any],
    worst: bool,
    folder: Path,
    facts: dict[str, Any],
    json_: bool,
) -> None:
    """Compare, then write the report and say where it is."""
    from ..research.comparison import Goal, Settings, compare, method_names, write_report
    from ..research.evaluation import environment

    if learn is None:
        raise InputError("--methods needs --learn FILE: the labelled texts that methods learn from")
    examples = read_examples(learn)
    neutral, sentences = read_given(*given)
    instructions = settings.pop("instructions")
    options = {} if instructions is None else {"instructions": instructions}
    style = next(iter(scorers))
    goals = (
        {"detox": Goal(1, f"{style}.any", True)}
        if worst
        else {"positive": Goal(1, style, False), "negative": Goal(-1, style, True)}
    )
    facts |= {
        "examples": len(examples),
        **settings,
        **options,
        **environment(),
    }
    with progress_bars(quiet=json_) as progress:

        def done(row: MethodRow) -> None:
            if not json_:
                out.print(
                    f"{escape(row.name)}: fitted in {row.seconds:.0f} s, writes at "
                    f"×{row.decode:.2f}"
                )

        rows = compare(
            model,
            tokenizer,
            method_names([name.strip() for name in methods.split(",")]),
            examples,
            prompts,
            scorers,
            signs=[goal.sign for goal in goals.values()],
            settings=Settings(**settings, neutral=neutral, sentences=sentences, options=options),
            worst=worst,
            folder=folder / "methods",
            progress=progress,
            done=done,
        )
    write_report(folder, f"Methods on {Path(str(facts['model'])).name}", rows, goals, facts)
    if json_:
        print_json([asdict(row) for row in rows])
    else:
        out.print(f"report: {escape(str(folder / 'comparison.md'))}", soft_wrap=True)


def read_instructions(given: list[str] | None) -> tuple[str, str] | None:
    """What is read before a prompt, for strength 1 and for -1; they end with a line break."""
    if not given:
        return None
    if len(given) != 2:
        raise InputError(
            f"--instruction is given twice, for strength 1 and then for -1; got {len(given)}"
        )
    return f"{given[0].rstrip()}\n", f"{given[1].rstrip()}\n"


def read_given(
    neutral: Path | None, sentences: Path | None
) -> tuple[list[str], tuple[list[str], list[bool]]]:
    """Text that shows what of a model is kept.

    Args:
        neutral: A text a line (.txt), or as prompts are read.
        sentences: A table with the columns ``text`` and ``acceptable`` (0 or 1), or CoLA's own
            (.tsv without a header: source, verdict, mark, sentence).
    """
    texts = read_prompts(neutral) if neutral else []
    if sentences is None:
        return texts, ([], [])
    found: list[tuple[str, bool]] = []
    with sentences.open(encoding="utf-8", newline="") as file:
        if sentences.suffix == ".tsv":
            for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                if len(row) != 4 or row[1] not in ("0", "1"):
                    raise InputError(
                        f"{sentences}: expected source, 0 or 1, mark and sentence with tabs "
                        f"between, as CoLA has them; got {row}"
                    )
                found.append((row[3], row[1] == "1"))
        else:
            for number, named in enumerate(csv.DictReader(file), start=2):
                if named.get("acceptable") not in ("0", "1") or not named.get("text"):
                    raise InputError(
                        f"{sentences}, line {number}: expected the columns text and acceptable "
                        "(0 or 1)"
                    )
                found.append((named["text"], named["acceptable"] == "1"))
    return texts, ([text for text, _ in found], [good for _, good in found])
