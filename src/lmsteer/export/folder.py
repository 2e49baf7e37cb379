"""`export_folder`: a plain Hugging Face folder at fixed strengths, without loading the model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import InputError, UnsupportedError
from ..model import decoder_start, steered_rows
from ..steer import Site, Steer
from ..storage import front_matter, steer_lines
from ..text import markdown
from .checkpoint import INDEX, Checkpoint
from .notes import baked_in, base_of, fresh_folder

_ROWS_A_CHUNK = 8192
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_NOT_COPIED = (".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".gguf")


def export_folder(
    checkpoint: Checkpoint,
    strengths: Mapping[Steer, float | str],
    path: str | PathLike[str],
    *,
    untie: bool = False,
    dtype: str | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Write a model whose own weights hold the steers; what `lmsteer.merge` makes, file by file.

    Files without a word table are copied; of the others one is in memory at a time. The tables
    are computed in float32 and rounded to their own dtype once. A tied head is untied, in the
    weights and in ``config.json``, so that only the steered site changes.

    Args:
        checkpoint: The model, from `open_checkpoint`.
        strengths: The signed strength of each steer, or a word for a calibrated steer.
        path: The folder to make.
        untie: Whether a tied head gets a table of its own even if no strength needs it: llama.cpp's
            converter then writes the head that adapters need.
        dtype: The type of the weights that are written, ``"float32"``, ``"bfloat16"`` or
            ``"float16"``; by default their own. The steered tables of a half-precision model are
            exact to 1e-4 in float32 alone.
        force: Whether a folder that an earlier export wrote is replaced.

    Returns:
        What was written: ``{"out", "files", "untied", "steers"}``.

    Raises:
        MismatchError: A steer of another model.
        InputError: `path` exists and may not be replaced.
        UnsupportedError: An encoder-decoder with a tied head, which ties again when loaded.
    """
    if dtype not in (None, *_DTYPES):
        raise InputError(f"dtype must be one of {', '.join(_DTYPES)}, was: {dtype!r}")
    wanted = None if dtype is None else _DTYPES[dtype]
    fixed = checkpoint.fixed(strengths)
    untied = checkpoint.tied and (untie or bool(fixed))
    if untied and decoder_start(checkpoint.model) is not None:
        raise UnsupportedError(
            f"{type(checkpoint.model).__name__} has a head tied to its embeddings, and ties it "
            "again whenever it is loaded; attach the steer instead, or export it for PEFT"
        )
    new = {
        key: table
        for site in ("output", "input")
        for key, table in _tables(checkpoint, fixed, site, untied=untied, dtype=wanted)
    }
    with fresh_folder(path, force=force) as folder:
        for file in checkpoint.folder.iterdir():
            if file.is_file() and not file.name.endswith((*_NOT_COPIED, ".index.json", ".md")):
                shutil.copyfile(file, folder / file.name)
        _configure(folder / "config.json", untied=untied, dtype=dtype)
        count = _write(checkpoint, new, folder, wanted)
        facts = baked_in(fixed)
        (folder / "README.md").write_text(_card(checkpoint, facts), encoding="utf-8")
    return {"out": str(path), "files": count, "untied": untied, "steers": facts}


def _tables(
    checkpoint: Checkpoint,
    fixed: Mapping[Steer, float],
    site: Site,
    *,
    untied: bool,
    dtype: torch.dtype | None,
) -> list[tuple[str, Tensor]]:
    """The table of a site under its key, if it changes or gets a place of its own."""
    here = {steer: s for steer, s in fixed.items() if steer.site == site}
    is_new = untied and site == "output"
    if not here and not is_new:
        return []
    key = checkpoint.tables[site]
    if is_new:
        key = f"{checkpoint.head_name()}.weight"
        if key == checkpoint.tables["input"]:  # the one table was stored under the head's name
            raise UnsupportedError(
                f"the tied table is stored as {key!r}; save the model anew with "
                "lmsteer.load_model(...)[0].save_pretrained(FOLDER) and export that"
            )
    rows = checkpoint.read(checkpoint.tables[site])
    result = torch.empty_like(rows, dtype=dtype)
    for start in range(0, len(rows), _ROWS_A_CHUNK):
        part = slice(start, start + _ROWS_A_CHUNK)
        result[part] = steered_rows(rows[part], here).to(result.dtype)
    return [(key, result)]


def _write(
    checkpoint: Checkpoint, new: Mapping[str, Tensor], folder: Path, dtype: torch.dtype | None
) -> int:
    """The weights, under the names that loaders expect of several files, with their index."""
    added = {key: table for key, table in new.items() if key not in checkpoint.files}
    old = sorted(set(checkpoint.files.values()))
    count = len(old) + bool(added)
    index, size = dict[str, str](), 0
    for number, source in enumerate([*old, None][:count], start=1):
        name = f"model-{number:05}-of-{count:05}.safetensors"
        if source is None:
            save_file(dict(added), folder / name, metadata={"format": "pt"})
            keys = list(added)
        else:
            keys = [key for key, file in checkpoint.files.items() if file == source]
            if dtype is not None or new.keys() & set(keys):
                tensors = {k: new[k] if k in new else checkpoint.read(k) for k in keys}
                if dtype is not None:
                    tensors = {
                        k: t.to(dtype) if t.is_floating_point() else t for k, t in tensors.items()
                    }
                save_file(tensors, folder / name, metadata={"format": "pt"})
                del tensors
            else:
                shutil.copyfile(checkpoint.folder / source, folder / name)
        index |= dict.fromkeys(keys, name)
        size += _bytes(folder / name)
    facts = {"metadata": {"total_size": size}, "weight_map": index}
    (folder / INDEX).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return count


def _bytes(path: Path) -> int:
    with safe_open(path, framework="pt") as file:
        slices = [file.get_slice(key) for key in file.keys()]
    widths = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "I64": 8, "I32": 4}
    return sum(
        widths.get(s.get_dtype(), 1) * int(torch.tensor(s.get_shape()).prod()) for s in slices
    )


def _configure(path: Path, *, untied: bool, dtype: str | None) -> None:
    """Say in the configuration what loading has to know."""
    config = json.loads(path.read_text(encoding="utf-8"))
    for part in (config, config.get("text_config")):
        if isinstance(part, dict) and untied:
            part["tie_word_embeddings"] = False
        for name in ("dtype", "torch_dtype"):
            if isinstance(part, dict) and dtype is not None and name in part:
                part[name] = dtype
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _card(checkpoint: Checkpoint, facts: list[dict[str, Any]]) -> str:
    base, on_hub = base_of(checkpoint)
    lines = [
        *front_matter(["lm-steer", "steering"], base=on_hub),
        f"# {markdown(base)}, steered",
        "",
        "The model with these steers in its word tables, at fixed strengths (lmsteer; LM-Steer, "
        "Han et al., ACL 2024):",
        "",
        *steer_lines(facts, site=True),
    ]
    return "\n".join(lines) + "\n"
