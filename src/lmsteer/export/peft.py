"""`export_peft`: steers as a LoRA on the head, for PEFT and whatever reads its adapters.

The score of word v moves by ``s * (h P) Q^T e_v``, which is a LoRA on the head with
``A = P^T`` (rank x dim) and ``B = E Q`` (vocab x rank): exact, for a head tied to the input table
as well, since the adapter stands beside the head and the table stays as it is.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from os import PathLike
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from ..errors import InputError, MissingExtraError, UnsupportedError
from ..model import decoder_start, head_of, input_tables, untie
from ..steer import Steer, compose
from ..storage import front_matter, steer_lines
from ..text import code, markdown
from .checkpoint import Checkpoint
from .notes import baked_in, base_of, fresh_folder

_ROWS_A_CHUNK = 8192
TIED_NOTE = (
    "this model's head is tied to its input embeddings: do not call merge_and_unload on the "
    "adapter, it would write the steer into the input embeddings too. For a merged model use "
    "lmsteer export folder, or lmsteer.export.guard_merging on the PeftModel first"
)


def lora_factors(
    head: Float[Tensor, "vocab dim"],
    strengths: Mapping[Steer, float],
    *,
    rank: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[Float[Tensor, "rank dim"], Float[Tensor, "vocab rank"], float]:
    """A LoRA on the head that at scale 1 does what the steers do at these strengths.

    The ranks of several steers lie side by side, so that they stay exact. The signed strengths are
    in ``B``.

    Args:
        head: The rows of the head.
        strengths: The signed strength of each steer; all steers are of the output site.
        rank: The number of directions of the summed map to keep; by default all.
        dtype: The type that A and B are rounded to; the product is computed in float32.

    Returns:
        ``A``, ``B`` (so that scores move by ``h @ A.T @ B.T``), and what truncation lost:
        ``||W - W_rank|| / ||W||``, 0 where nothing was cut.

    Raises:
        InputError: No steer, or a rank above that of the summed map.
        UnsupportedError: A steer of the input site.
    """
    for steer in strengths:
        if steer.site != "output":
            raise UnsupportedError(
                f"a LoRA on the head carries steers of the output site alone, {steer.name!r} acts "
                "on the input; use lmsteer export folder"
            )
    total, lost = compose(strengths), 0.0
    if rank is not None and rank < total.rank:
        total, lost = total.truncate(rank)
    elif rank is not None and rank > total.rank:
        raise InputError(f"rank must be between 1 and {total.rank}, was: {rank}")
    B = torch.empty(len(head), total.rank, dtype=dtype)
    for start in range(0, len(head), _ROWS_A_CHUNK):
        part = slice(start, start + _ROWS_A_CHUNK)
        B[part] = (head[part].float() @ total.Q).to(dtype)
    return total.P.T.to(dtype).contiguous(), B, lost


def export_peft(
    checkpoint: Checkpoint,
    strengths: Mapping[Steer, float | str],
    path: str | PathLike[str],
    *,
    rank: int | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Write an adapter folder that ``PeftModel.from_pretrained(model, path)`` loads.

    At adapter weight 1 the steers act at the strengths given; other weights, negative ones too,
    scale them all. Export each steer by itself at strength 1 to set them apart at run time.

    Args:
        checkpoint: The model, from `open_checkpoint`.
        strengths: The signed strength of each steer of the output site, or a word for a calibrated
            steer.
        path: The folder to make.
        rank: The number of directions to keep, for engines that limit the rank; by default all.
        force: Whether a folder that an earlier export wrote is replaced.

    Returns:
        What was written: ``{"out", "rank", "truncation_error", "tied", "steers"}``.

    Raises:
        MissingExtraError: PEFT is absent (extra ``peft``).
        MismatchError: A steer of another model.
        InputError: No strength but 0, `path` exists and may not be replaced, or a wrong rank.
        UnsupportedError: A steer of the input site.
    """
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise MissingExtraError("peft", "peft", "exporting an adapter for PEFT") from error
    fixed = checkpoint.fixed(strengths)
    if not fixed:
        raise InputError("every strength is 0: there is nothing to export")
    A, B, lost = lora_factors(head_of(checkpoint.model).weight, fixed, rank=rank)
    name = checkpoint.head_name()
    encodes = decoder_start(checkpoint.model) is not None
    config = LoraConfig(
        task_type="SEQ_2_SEQ_LM" if encodes else "CAUSAL_LM",
        r=len(A),
        lora_alpha=len(A),  # the scale is lora_alpha / r; the strengths are in B
        target_modules=[name],
        base_model_name_or_path=str(checkpoint.model.config._name_or_path),
        inference_mode=True,
    )
    facts = baked_in(fixed)
    with fresh_folder(path, force=force) as folder:
        config.save_pretrained(str(folder))
        prefix = f"base_model.model.{name}"
        tensors = {f"{prefix}.lora_A.weight": A, f"{prefix}.lora_B.weight": B}
        save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        (folder / "README.md").write_text(_card(checkpoint, facts, lost), encoding="utf-8")
    return {
        "out": str(path),
        "rank": len(A),
        "truncation_error": lost,
        "tied": checkpoint.tied,
        "steers": facts,
    }


def guard_merging(model: Any) -> Any:
    """Make ``merge_and_unload`` of a PeftModel safe where head and input embeddings are tied.

    The head is given a table of its own just before it is merged, so that the merged model scores
    as the adapter did. Until then nothing changes.

    Args:
        model: A PeftModel with an adapter on its head.

    Returns:
        The same model.
    """
    base = model.get_base_model()
    plain = model.merge_and_unload

    @functools.wraps(plain)
    def merge_and_unload(*args: Any, **kwargs: Any) -> Any:
        outer = base.get_output_embeddings()
        head = getattr(outer, "base_layer", outer)
        if head.weight.data_ptr() == input_tables(base)[0].weight.data_ptr():
            untie(base, head)
        return plain(*args, **kwargs)

    model.merge_and_unload = merge_and_unload
    return model


def _card(checkpoint: Checkpoint, facts: list[dict[str, Any]], lost: float) -> str:
    base, on_hub = base_of(checkpoint)
    lines = [
        *front_matter(["lm-steer", "steering", "lora"], library="peft", base=on_hub),
        f"# {markdown(' + '.join(f['name'] for f in facts))}",
        "",
        f"A LoRA on the head of {code(base)} that steers it "
        "(lmsteer; LM-Steer, Han et al., ACL 2024). At adapter weight 1:",
        "",
        *steer_lines(facts),
        "",
        "Other weights of the adapter, negative ones too, scale this strength.",
        "Save with `save_pretrained(..., save_embedding_layers=False)`: the head is not trained.",
    ]
    if lost:
        lines += ["", f"Truncated: the map differs from the whole one by {lost:.3g} (relative)."]
    if checkpoint.tied:
        lines += ["", f"**Tied head.** Note that {TIED_NOTE}."]
    return "\n".join(lines) + "\n"
