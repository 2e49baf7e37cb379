"""`lmsteer transfer`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from .display import err, escape, print_json, progress_bars
from .opening import open_model
from .options import MODEL, Calibrate, Device, Dtype, Force, Json, Label, Model, Name, Out, Scale
from .steers import read_name


def transfer(
    name: Name,
    target: Annotated[
        str,
        typer.Option(
            "--target",
            help="The model to carry the steer to: whatever --model takes.",
            show_default=False,
        ),
    ],
    out_folder: Out,
    model: Model = MODEL,
    form: Annotated[
        str,
        typer.Option(
            help="How the models are aligned: states, two-sided, inverse, weighted, or transpose "
            "(the paper's)."
        ),
    ] = "states",
    texts: Annotated[
        Path | None,
        typer.Option(
            help="A file of texts, one per line, that both models read.  [default: texts that the "
            "models write]"
        ),
    ] = None,
    refine: Annotated[
        str | None,
        typer.Option(
            help="A file of labelled texts, some 30, to refine the steer on, in any form that "
            "train takes; --label and --scale are about it."
        ),
    ] = None,
    label: Label = ["label"],  # noqa: B006
    scale: Scale = None,
    calibrate: Calibrate = True,
    device: Device = None,
    dtype: Dtype = None,
    force: Force = False,
    json_: Json = False,
) -> None:
    """Carry a steer from one model to another, without training or refined on a few texts.

    --model is the model that the steer was learned on.

    Example: lmsteer transfer sentiment --target bundled-small --out sentiment-small
    """
    from ..alignment import transfer as carried
    from ..steer import read_provenance
    from ..storage import check_writable
    from ..text import read_examples, read_prompts

    if len(label) != 1:
        raise InputError(f"a steer is refined on one column of labels, got {len(label)} --label")
    check_writable(out_folder, force=force)
    examples = read_examples(refine, label=label[0], scale=scale) if refine else None
    source = open_model(model, device=device, dtype=dtype)
    goal = open_model(target, device=device, dtype=dtype)
    with progress_bars(quiet=json_) as progress:
        found = carried(
            source,
            goal,
            read_name(name, source[0]),
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
        f"{facts['scaled_by']:.3g} so that strength 1 diverges from the model as on the source"
    )
    err.print(f"[bold]{escape(str(out_folder))}[/]: {escape(repr(found))}")
