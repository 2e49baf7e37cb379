"""`lmsteer explain`: what steers learned, and what they find in a text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from ..steer import Steer, file_name, labels, strength_texts, unique_file_names
from .display import err, escape, print_json, progress_bars
from .explained import show_directions, show_overlaps, show_texts, show_words
from .opening import open_model
from .options import MODEL, NEUTRAL, Count, Device, Dtype, Figures, Json, Model, Prompts
from .prompts import read_files
from .steers import read_fixed

STRENGTH = 3.0


def explain(
    steers: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME[=STRENGTH]",
            help="Steers, each with the strength at which words and spans are compared; NAME alone "
            "means strength 3. Several are compared with each other.",
            show_default=False,
        ),
    ],
    text: Annotated[
        list[str] | None,
        typer.Option(help="A text to read by the first steer. May be given several times."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="A file of texts to read: one per line, or JSONL with 'text'."),
    ] = None,
    model: Model = MODEL,
    prompts: Prompts = None,
    count: Count = None,
    directions: Annotated[
        int, typer.Option(help="How many leading directions of the map are shown.")
    ] = 3,
    words: Annotated[int, typer.Option(help="How many words each list has.")] = 10,
    spans: Annotated[int, typer.Option(help="How many spans of each text are shown.")] = 3,
    domain_on: Annotated[
        bool,
        typer.Option(
            "--domain-on/--domain-off", help="Read texts with the steer's domain part, or without."
        ),
    ] = True,
    html: Annotated[
        Path | None, typer.Option(help="Write the texts and their spans to this HTML page.")
    ] = None,
    figures: Figures = None,
    device: Device = None,
    dtype: Dtype = None,
    json_: Json = False,
) -> None:
    """Show which words a steer raises and lowers, or what it finds in a text.

    Without a text: words, after the prompts, and the directions of the map. With --text or --file:
    the spans that speak for the style or against it, the text's own style value (the strength at
    which it is likeliest), and the probability of its label. Of several steers also how far their
    directions overlap.

    Example: lmsteer explain sentiment --text "A moving film, but far too long."
    """
    from ..interpretation import overlaps

    texts = [*(text or []), *(_texts(file) if file else [])]
    if html is not None and not texts:
        raise InputError("--html shows texts: give some with --text or --file")
    network, tokenizer = open_model(model, device=device, dtype=dtype)
    strengths = read_fixed(steers, network, alone=STRENGTH)
    found = list(strengths)
    if figures is not None:
        figures.mkdir(parents=True, exist_ok=True)
    names = labels(found)
    how: dict[str, Any] = {"figures": figures, "quiet": json_}
    if texts:
        how |= {"spans": spans, "domain": domain_on, "html": html}
        first = found[0]
        read = _read(first, network, tokenizer, texts, strength=strengths[first], **how)
        told: dict[str, Any] = {"texts": read}
    else:
        before = read_files(prompts or [NEUTRAL], count)
        how |= {"directions": directions, "words": words, "prompts": before}
        files = unique_file_names(list(names.values()))
        learned = (
            _learned(s, names[s], file, network, tokenizer, strength=strengths[s], **how)
            for s, file in zip(found, files, strict=True)
        )
        told = {"steers": dict(zip(names.values(), learned, strict=True))}
    if len(found) > 1:
        shared = overlaps(found)
        told["overlaps"] = {"names": list(names.values()), "values": shared.tolist()}
        if figures is not None:
            from ..figures import overlaps_figure

            overlaps_figure(figures / "overlaps.png", shared, list(names.values()))
        if not json_:
            show_overlaps(list(names.values()), shared)
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
        show_texts(read, values)
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

    gains, losses = word_shifts(
        network, tokenizer, steer, strength=strength, count=words, prompts=prompts
    )
    parts = directions_of(network, tokenizer, steer, count=directions, words=words, prompts=prompts)
    if not quiet:
        show_words(name, strength, gains, losses)
        show_directions(parts)
    if figures is not None:
        from ..figures import words_figure
        from ..metrics import masked

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
            raise InputError(f"{file}: expected JSON objects with a 'text' on each line") from error
    return lines
