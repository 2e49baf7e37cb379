"""`lmsteer explain`: what steers learned, and what they find in a text."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from ..errors import InputError
from ..steer import Steer, file_name, labels, strength_texts, unique_file_names
from ..text import visible
from .display import err, escape, hush_transformers, out, print_json, progress_bars

if TYPE_CHECKING:
    from ..interpretation import Direction, Evidence, Shift, StyleValue


def explain(
    steers: Annotated[
        list[str], typer.Argument(help="folders, shipped steers or Hub ids; several are compared")
    ],
    text: Annotated[
        list[str] | None, typer.Option(help="read this text by the (first) steer; repeat for more")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="read this file: a text a line, or JSONL with 'text'")
    ] = None,
    model: Annotated[str, typer.Option(help="bundled, a local folder or a Hub id")] = "bundled",
    strength: Annotated[float, typer.Option(help="words and spans are compared at it")] = 3.0,
    prompts: Annotated[
        str, typer.Option(help="file of prompts, or bundled:SET, before the words")
    ] = "bundled:neutral",
    directions: Annotated[int, typer.Option(help="leading directions of the map")] = 3,
    words: Annotated[int, typer.Option(help="words of each list")] = 10,
    spans: Annotated[int, typer.Option(help="spans of each text")] = 3,
    domain: Annotated[bool, typer.Option(help="read texts with the domain part on")] = True,
    html: Annotated[Path | None, typer.Option(help="write texts and spans to this page")] = None,
    figures: Annotated[Path | None, typer.Option(help="draw figures into this folder")] = None,
    device: Annotated[str | None, typer.Option(help="cuda, mps, cpu or auto")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16, float16 or auto")] = None,
    json_: Annotated[bool, typer.Option("--json", help="print everything as JSON")] = False,
) -> None:
    """Which words a steer raises and lowers, along which directions, and what it finds in a text.

    Without a text: words and directions. With --text or --file: the spans that speak for the style
    or against it, the text's own style value (the strength at which it is likeliest) and the
    probability of its label. Of several steers also how their directions overlap.

    Example: lmsteer explain sentiment --text "A moving film, but far too long."
    """
    from ..interpretation import overlaps
    from ..model import load_model
    from ..storage import load_steer
    from ..text import read_prompts

    texts = [*(text or []), *(_texts(file) if file else [])]
    if html is not None and not texts:
        raise InputError("--html shows texts: give some with --text or --file")
    hush_transformers()
    network, tokenizer = load_model(model, device=device, dtype=dtype)
    found = [load_steer(name, network) for name in steers]
    if figures is not None:
        figures.mkdir(parents=True, exist_ok=True)
    names = labels(found)
    how: dict[str, Any] = {"figures": figures, "quiet": json_, "strength": strength}
    if texts:
        how |= {"spans": spans, "domain": domain, "html": html}
        told: dict[str, Any] = {"texts": _read(found[0], network, tokenizer, texts, **how)}
    else:
        how |= {"directions": directions, "words": words, "prompts": read_prompts(prompts)}
        files = unique_file_names(list(names.values()))
        learned = (
            _learned(s, names[s], file, network, tokenizer, **how)
            for s, file in zip(names, files, strict=True)
        )
        told = {"steers": dict(zip(names.values(), learned, strict=True))}
    if len(found) > 1:
        _compare(list(names.values()), overlaps(found), told, figures, quiet=json_)
    if json_:
        print_json(told)


def _read(
    steer: Steer,
    network: Any,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    strength: float,
    spans: int,
    domain: bool,
    html: Path | None,
    figures: Path | None,
    quiet: bool,
) -> list[dict[str, Any]]:
    """What the steer finds in texts, printed and drawn."""
    from ..interpretation import read_texts

    with progress_bars(quiet=quiet) as progress:
        both = read_texts(
            network,
            tokenizer,
            steer,
            texts,
            strength=strength,
            spans=spans,
            domain=domain,
            progress=progress,
        )
    read, values = [e for e, _ in both], [v for _, v in both]
    if not quiet:
        _show_texts(read, values)
    if html is not None:
        from ..interpretation import page
        from ..storage import write_file

        write_file(html, page(read, steer.name, strength=strength))
        err.print(f"page: {escape(str(html))}")
    if figures is not None:
        from ..figures import value_figure

        names = [" ".join(t.split())[:40] for t in texts]
        path = figures / f"{file_name(steer.name)}-value.png"
        value_figure(path, values[:6], names[:6], steer.name)
    return [{**asdict(e), "style": asdict(v)} for e, v in zip(read, values, strict=True)]


def _learned(
    steer: Steer,
    name: str,
    file: str,
    network: Any,
    tokenizer: Any,
    *,
    strength: float,
    directions: int,
    words: int,
    prompts: Sequence[str],
    figures: Path | None,
    quiet: bool,
) -> dict[str, Any]:
    """What the steer does to words, printed and drawn; offensive words are masked there."""
    from ..interpretation import directions as directions_of
    from ..interpretation import word_shifts
    from ..metrics import masked

    gains, losses = word_shifts(
        network, tokenizer, steer, strength=strength, count=words, prompts=prompts
    )
    parts = directions_of(network, tokenizer, steer, count=directions, words=words, prompts=prompts)
    if not quiet:
        _show_words(name, strength, gains, losses, masked)
        _show_directions(parts, masked)
    if figures is not None:
        from ..figures import words_figure

        shown = [[replace(w, word=masked(w.word)) for w in side] for side in (gains, losses)]
        title = f"{name} at {strength_texts([strength])[0]}"
        words_figure(figures / f"{file}-words.png", shown[0], shown[1], title)
    return {
        "gains": [asdict(w) for w in gains],
        "losses": [asdict(w) for w in losses],
        "directions": [asdict(d) for d in parts],
    }


def _texts(file: Path) -> list[str]:
    if not file.is_file():
        raise InputError(f"no file {file} to read texts from")
    lines = [line for line in file.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    if file.suffix == ".jsonl":
        try:
            lines = [str(json.loads(line)["text"]) for line in lines]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{file}: expected JSON objects with a 'text' a line") from error
    return lines


def _show_texts(read: Sequence[Evidence], values: Sequence[StyleValue]) -> None:
    for found, value in zip(read, values, strict=True):
        out.print(_coloured(found), soft_wrap=True)
        spans = ", ".join(
            f"{escape(repr(found.text[s.start : s.end]))} {s.ratio:+.2f}" for s in found.spans
        )
        out.print(f"  spans: {spans or 'none'}", soft_wrap=True)
        out.print(
            f"  style value {value.value:+.2f} [{value.low:+.2f}, {value.high:+.2f}], "
            f"probability of the style {value.probability:.3f}, {value.tokens} tokens"
        )


def _coloured(found: Evidence) -> Text:
    """Blue speaks for the style, orange against it; the best spans are underlined."""
    shown = [visible(letter, keep="\n") for letter in found.text]
    place = [0, *itertools.accumulate(map(len, shown))]  # a control character takes more room
    text = Text("".join(shown))
    for token in found.tokens:
        if abs(token.ratio) >= 0.25:
            strong = "bold " if abs(token.ratio) >= 1.0 else ""
            colour = "blue" if token.ratio > 0 else "dark_orange"
            text.stylize(f"{strong}{colour}", place[token.start], place[token.end])
    for span in found.spans:
        text.stylize("underline", place[span.start], place[span.end])
    return text


def _show_words(
    name: str, strength: float, gains: Sequence[Shift], losses: Sequence[Shift], masked: Any
) -> None:
    table = Table("gain", "nats", "lose", "nats", title=f"{escape(name)} at {strength:+g}")
    for i in range(max(len(gains), len(losses))):
        cells = []
        for side in (gains, losses):
            row = side[i] if i < len(side) else None
            cells += [escape(masked(row.word)), f"{row.change:+.2f}"] if row else ["", ""]
        table.add_row(*cells)
    out.print(table)


def _show_directions(parts: Sequence[Direction], masked: Any) -> None:
    for number, part in enumerate(parts, start=1):
        out.print(f"direction {number}, {part.share:.0%} of the map")
        for title, ends in (("raises when on", part.writes), ("switched on by", part.reads)):
            for sign, end in zip("+-", ends, strict=True):
                listed = ", ".join(escape(masked(word)) for word, _ in end)
                out.print(f"  {title} {sign}: {listed}", soft_wrap=True)


def _compare(
    names: Sequence[str], found: Any, told: dict[str, Any], figures: Path | None, *, quiet: bool
) -> None:
    told["overlaps"] = {"names": names, "values": found.tolist()}
    if figures is not None:
        from ..figures import overlaps_figure

        figures.mkdir(parents=True, exist_ok=True)
        overlaps_figure(figures / "overlaps.png", found, names)
    if quiet:
        return
    table = Table("overlap", *map(escape, names), title="leading directions: 1 the same, 0 none")
    for name, row in zip(names, found, strict=True):
        table.add_row(escape(name), *(f"{value:.2f}" for value in row))
    out.print(table)
