"""`export_gguf`: steers for llama.cpp, as LoRA files whose run-time scale is the strength.

A LoRA on ``output.weight`` is exact, but llama.cpp applies it only where the model's file holds
that tensor. Files of tied models leave it out, so the base is written with the head spelt out.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ..errors import InputError, UnsupportedError
from ..model import head_of
from ..steer import Steer, labels, unique_file_names
from .checkpoint import Checkpoint
from .llama import check_llama, metadata, tensors
from .notes import fresh_folder
from .peft import lora_factors

Precision = Literal["f32", "f16", "bf16", "q8_0"]
BASE = "base.gguf"
# What llama.cpp calls architectures whose files may hold a head of their own.
ARCHITECTURES = {
    "llama": "llama",
    "mistral": "llama",
    "mixtral": "llama",
    "gpt2": "gpt2",
    "gpt_neox": "gptneox",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "phi3": "phi3",
    "olmo2": "olmo2",
    "granite": "granite",
    "stablelm": "stablelm",
}


def export_gguf(
    checkpoint: Checkpoint,
    steers: Sequence[Steer],
    path: str | PathLike[str],
    *,
    base: Precision | str | None = "f16",
    force: bool = False,
) -> dict[str, Any]:
    """Write a folder of GGUF files: ``base.gguf``, and one LoRA per steer and domain part.

    Args:
        checkpoint: The model, from `open_checkpoint`.
        steers: Steers of the output site. Each becomes ``NAME.gguf``, and its domain part
            ``NAME.domain.gguf``, by names that are safe as file names. Steers of one name have
            numbers: ``NAME#1.gguf``. The scale given at run time is the strength, signed.
        path: The folder to make.
        base: The precision of the model's matrices, ``"f32"``, ``"f16"``, ``"bf16"`` or ``"q8_0"``
            (norms stay f32; f16 and q8_0 round). None writes LoRA files alone, for a base made
            by llama.cpp's own converter from a model with an untied head.
        force: Whether a folder that an earlier export wrote is replaced.

    Returns:
        What was written: ``{"out", "base", "steers"}``, the latter by name (`naming.labels`) with
        their files.

    Raises:
        MismatchError: A steer of another model.
        InputError: An unknown precision, or `path` may not be replaced.
        UnsupportedError: A steer of the input site; an architecture whose base cannot be written
            here, or whose files have no head of their own.
    """
    if base is not None and base not in get_args(Precision):
        raise InputError(f"base must be one of {get_args(Precision)} or None, was: {base!r}")
    kind = str(checkpoint.model.config.model_type)
    if kind not in ARCHITECTURES:
        raise UnsupportedError(
            f"llama.cpp has no head of its own in files of {kind!r} models; adapters work with "
            f"{', '.join(ARCHITECTURES)}. Write a plain model with lmsteer export folder, and "
            "convert that"
        )
    if base is not None:
        check_llama(checkpoint)
    parts = labels(p for s in steers for p in (s, s.domain) if p is not None)
    checkpoint.fixed(dict.fromkeys(steers, 1.0))
    stems = unique_file_names(list(parts.values()), taken=[Path(BASE).stem])
    files = {part: f"{stem}.gguf" for part, stem in zip(parts, stems, strict=True)}
    with fresh_folder(path, force=force) as folder:
        if base is not None:
            _write_base(checkpoint, folder / BASE, base)
        for part, file in files.items():
            _write_lora(checkpoint, part, folder / file, ARCHITECTURES[kind])
    found = {parts[part]: str(Path(path) / file) for part, file in files.items()}
    return {
        "out": str(path),
        "base": None if base is None else str(Path(path) / BASE),
        "steers": found,
    }


def _write_lora(checkpoint: Checkpoint, steer: Steer, path: Path, kind: str) -> None:
    from gguf import GGUFWriter

    A, B, _ = lora_factors(head_of(checkpoint.model).weight, {steer: 1.0})
    writer = GGUFWriter(path, kind)
    writer.add_type("adapter")
    writer.add_name(steer.name)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(steer.rank))  # llama.cpp scales by alpha / rank
    writer.add_tensor("output.weight.lora_a", A.numpy())
    writer.add_tensor("output.weight.lora_b", B.numpy())
    _finish(writer)


def _write_base(checkpoint: Checkpoint, path: Path, precision: str) -> None:
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "llama", use_temp_file=True)  # tensors wait on disk, not in memory
    metadata(writer, checkpoint, precision)
    for name, tensor in tensors(checkpoint):
        _add(writer, name, tensor, precision)
    _finish(writer)


def _add(writer: Any, name: str, tensor: Tensor, precision: str) -> None:
    from gguf import GGMLQuantizationType, quants

    kinds = {
        "f32": GGMLQuantizationType.F32,
        "f16": GGMLQuantizationType.F16,
        "bf16": GGMLQuantizationType.BF16,
        "q8_0": GGMLQuantizationType.Q8_0,
    }
    kind = kinds[precision]
    if tensor.ndim == 1:  # norms
        kind = GGMLQuantizationType.F32
    elif precision == "q8_0" and tensor.shape[1] % 32:
        kind = GGMLQuantizationType.F16
    data = quants.quantize(tensor.to(torch.float32).contiguous().numpy(), kind)
    writer.add_tensor(name, data, raw_dtype=kind)


def _finish(writer: Any) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
