"""`lmsteer export peft`."""

from __future__ import annotations

from ..display import err, escape, print_json
from ..opening import open_weights
from ..options import MODEL, Fixed, Force, Json, Model, Out, Rank
from ..steers import read_fixed
from .steers import told


def peft(
    steers: Fixed,
    out_folder: Out,
    model: Model = MODEL,
    rank: Rank = None,
    force: Force = False,
    json_: Json = False,
) -> None:
    """Write a LoRA on the head, which PEFT and engines that read its adapters load.

    At adapter weight 1 the steers act at the strengths given; other weights scale them.

    Example: lmsteer export peft sentiment=1 --out sentiment-lora
    """
    from ...export import TIED_NOTE, check_free, export_peft

    check_free(out_folder, force=force)
    checkpoint = open_weights(model)
    mix = read_fixed(steers, checkpoint.model)
    facts = export_peft(checkpoint, mix, out_folder, rank=rank, force=force)
    if json_:
        print_json(facts)
        return
    told(facts)
    if facts["truncation_error"]:
        err.print(
            f"truncated to rank {facts['rank']}: the map differs from the whole one by "
            f"{facts['truncation_error']:.3g} (relative)"
        )
    if facts["tied"]:
        err.print(f"[yellow]note:[/] {TIED_NOTE}")
    err.print(f"[bold]{escape(str(out_folder))}[/]: PeftModel.from_pretrained(model, FOLDER)")
