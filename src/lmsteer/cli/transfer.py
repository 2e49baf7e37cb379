"""`lmsteer transfer`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .display import err, escape, hush_transformers, print_json, progress_bars


def transfer(
    steer: Annotated[str, typer.Argument(help="a folder, a shipped steer or a Hub id")],
    to: Annotated[str, typer.Option("--to", help="model to carry it to: a folder or a Hub id")],
    out_folder: Annotated[Path, typer.Option("--out", help="folder to write the steer to")],
    model: Annotated[str, typer.Option(help="model it was learned on")] = "bundled",
    form: Annotated[
        str, typer.Option(help="states, two-sided, inverse, weighted or transpose (the paper's)")
    ] = "states",
    texts: Annotated[
        Path | None, typer.Option(help="texts, a line each, that both read  [default: sampled]")
    ] = None,
    refine: Annotated[
        str | None, typer.Option(help="labelled examples (some 30) to refine on, as for train")
    ] = None,
    label: Annotated[str, typer.Option(help="column of the label in --refine")] = "label",
    scale: Annotated[
        tuple[float, float] | None, typer.Option(help="lowest and highest label in --refine")
    ] = None,
    calibrate: Annotated[
        bool, typer.Option(help="measure what strengths cost on the target")
    ] = True,
    device: Annotated[str | None, typer.Option(help="cuda, mps, cpu or auto")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16, float16 or auto")] = None,
    force: Annotated[bool, typer.Option(help="replace a steer that is already there")] = False,
    json_: Annotated[bool, typer.Option("--json", help="print the facts as JSON")] = False,
) -> None:
    """Carry a steer to another model, without training or refined on a few examples.

    Example: lmsteer transfer sentiment --to gpt2-large --model gpt2 --out sentiment-large
    """
    from ..alignment import transfer as carried
    from ..model import load_model
    from ..steer import read_provenance
    from ..storage import check_writable, load_steer
    from ..text import read_examples, read_prompts

    check_writable(out_folder, force=force)
    hush_transformers()
    examples = read_examples(refine, label=label, scale=scale) if refine else None
    source = load_model(model, device=device, dtype=dtype)
    target = load_model(to, device=device, dtype=dtype)
    with progress_bars(quiet=json_) as progress:
        found = carried(
            source,
            target,
            load_steer(steer, source[0]),
            form=form,
            texts=read_prompts(texts) if texts else None,
            examples=examples,
            calibrate=calibrate,
            progress=progress,
        )
    found.save(out_folder, force=force)
    facts = read_provenance(found.record).transfer or {}
    if json_:
        print_json(dict(facts))
        return
    fits = ", ".join(f"{k} {v['explained']:.0%}" for k, v in facts["fits"].items())
    err.print(
        f"{facts['shared_words']} words shared; held-out variance explained: {fits}; scaled by "
        f"{facts['scaled_by']:.3g} to the source's divergence at strength 1"
    )
    err.print(f"[bold]{escape(str(out_folder))}[/]: {escape(repr(found))}")
