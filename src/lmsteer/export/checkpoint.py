"""A model's folder, opened without loading it: its two word tables, and where every tensor lies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..errors import ArtefactError, NotFoundError, UnsupportedError
from ..model import check_everywhere, check_fit, head_of, model_folder, shown_name
from ..steer import Site, Steer, resolve_strength

HEADS = ("lm_head", "embed_out", "output")
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """A folder of safetensors whose word tables alone are in memory.

    Args:
        folder: The folder of the model.
        model: The model with every weight on the meta device, except for the head and the input
            table: enough to look up steers by name and to check that they belong to it.
        files: The file that holds each tensor, by the tensor's key.
        tables: The key of the table of each site; both sites have one key where they are tied.
        tied: Whether the head is the input table.
    """

    folder: Path
    model: Any
    files: Mapping[str, str]
    tables: Mapping[Site, str]
    tied: bool

    def read(self, key: str) -> Tensor:
        """One tensor, as it is stored."""
        with safe_open(self.folder / self.files[key], framework="pt") as file:
            tensor: Tensor = file.get_tensor(key)
        return tensor

    def head_name(self) -> str:
        """The head's name in the model, ``"lm_head"`` in most."""
        head = head_of(self.model)
        name: str = next(n for n, module in self.model.named_modules() if module is head)
        return name

    def fixed(self, strengths: Mapping[Steer, float | str]) -> dict[Steer, float]:
        """The strengths as numbers, of steers that were made for this model; zeros are dropped.

        Raises:
            MismatchError: A steer of another model.
            UnsupportedError: A steer that acts on the prompt alone.
        """
        for steer in strengths:
            check_fit(self.model, steer)
        numbers = {steer: resolve_strength(steer, s) for steer, s in strengths.items()}
        fixed = {steer: s for steer, s in numbers.items() if s}
        for steer in fixed:
            check_everywhere(steer, "an exported model or adapter")
        return fixed


def open_checkpoint(
    name_or_path: str | PathLike[str] = "bundled", *, revision: str | None = None
) -> Checkpoint:
    """Open a model for export, reading only its word tables.

    Args:
        name_or_path: The model, as for `lmsteer.load_model`. A GGUF file is unpacked first.
        revision: A branch, tag or commit on the Hub.

    Raises:
        NotFoundError: No such model.
        ArtefactError: A folder without safetensors, or a damaged one.
        UnsupportedError: A quantised model, one without a plain linear head, or one whose tables
            cannot be told apart from their names.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    folder = model_folder(name_or_path, revision=revision)
    try:
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise NotFoundError(f"could not open the model {str(name_or_path)!r}: {error}") from error
    if getattr(config, "quantization_config", None) is not None:
        raise UnsupportedError(
            f"{folder} holds a quantised model; export into the unquantised one, then quantise"
        )
    family = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    with torch.device("meta"):
        model: Any = family.from_config(config)  # type: ignore[no-untyped-call]
    model.config._name_or_path = shown_name(name_or_path)
    head, table = head_of(model), model.get_input_embeddings()
    if type(head) is not nn.Linear:
        raise UnsupportedError(
            f"exports need a plain linear head, {type(model).__name__} has a {type(head).__name__}"
        )
    files = _files(folder)
    tied = head.weight is table.weight
    found: dict[Site, str] = {}
    modules: dict[Site, Any] = {"input": table, "output": table if tied else head}
    for site, module in modules.items():
        name = next(name for name, other in model.named_modules() if other is module)
        key = found[site] = _key(files, f"{name}.weight", tied=tied)
        rows = _read(folder, files[key], key, tuple(module.weight.shape))
        module.weight = nn.Parameter(rows, requires_grad=False)
    if tied:
        head.weight = table.weight
    return Checkpoint(folder=folder, model=model.eval(), files=files, tables=found, tied=tied)


def _files(folder: Path) -> dict[str, str]:
    """The file of each tensor."""
    if (folder / INDEX).is_file():
        try:
            found = dict(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"])
        except (ValueError, KeyError, TypeError) as error:
            raise ArtefactError(f"{folder / INDEX} is damaged ({error}); copy it again") from error
        for file in found.values():
            if not isinstance(file, str) or Path(file).name != file or "\\" in file:
                raise ArtefactError(
                    f"{folder / INDEX} names the file {file!r}; expected files of its own folder"
                )
        return found
    if not (folder / WEIGHTS).is_file():
        raise ArtefactError(
            f"{folder} has no {WEIGHTS}; save the model anew with "
            "lmsteer.load_model(...)[0].save_pretrained(FOLDER)"
        )
    with _open(folder / WEIGHTS) as file:
        return dict.fromkeys(file.keys(), WEIGHTS)


def _key(files: Mapping[str, str], name: str, *, tied: bool) -> str:
    """What a tensor of the model is called in the folder: checkpoints may lack its first parts."""
    parts = name.split(".")
    for start in range(len(parts) - 1):
        if ".".join(parts[start:]) in files:
            return ".".join(parts[start:])
    # Tied tables are stored once, under the name of either; heads have had several names.
    last = {parts[-2], *(HEADS if tied or parts[-2] in HEADS else ())}
    alike = [key for key in files if f".{key}".split(".")[-2] in last and key.endswith(".weight")]
    if len(alike) != 1:
        raise UnsupportedError(
            f"expected a tensor {name!r} in the folder, found {alike or 'none'} alike; load the "
            "model and use lmsteer.merge instead"
        )
    return alike[0]


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise ArtefactError(f"{path} is damaged or missing ({error}); copy it again") from error


def _read(folder: Path, file: str, key: str, shape: tuple[int, ...]) -> Tensor:
    with _open(folder / file) as opened:
        rows: Tensor = opened.get_tensor(key)
    if tuple(rows.shape) != shape or not rows.is_floating_point():
        raise ArtefactError(
            f"{folder / file}: expected {key} of shape {shape} as config.json says, was: "
            f"{tuple(rows.shape)}, {rows.dtype}"
        )
    return rows
