"""Offsets of a vocabulary on disk: our file, and the official code's checkpoints."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ...errors import ArtefactError, InputError, NotFoundError
from ...storage import EPSILON, read_official, write_file

FORMAT = "lmsteer.swb"
Offsets = tuple[Tensor, Tensor | None]
"""``(vocab,)`` offset, and that of the domain where there is one."""


def write_offsets(
    path: str | PathLike[str], offset: Tensor, domain: Tensor | None, *, force: bool = False
) -> None:
    """Write one ``.safetensors`` file, whole or not at all.

    Args:
        path: The file to write; its folder is made if it is missing.
        offset: ``(vocab,)``.
        domain: ``(vocab,)`` or None.
        force: Whether a file that is already there is replaced.

    Raises:
        InputError: `path` exists and may not be replaced.
    """
    file = Path(path)
    if file.is_dir() or (file.exists() and not force):
        raise InputError(f"{file} exists already; choose another name, or give force=True")
    tensors = {"offset": offset} | ({} if domain is None else {"domain": domain})
    file.parent.mkdir(parents=True, exist_ok=True)
    write_file(file, save({k: v.contiguous() for k, v in tensors.items()}, {"format": FORMAT}))


def read_offsets(path: str | PathLike[str]) -> Offsets:
    """Read what `write_offsets` wrote.

    Raises:
        NotFoundError: There is no such file.
        ArtefactError: The file is damaged, or `write_offsets` did not write it.
    """
    file = Path(path)
    if not file.is_file():
        raise NotFoundError(f"no file {file}; expected one that SWB.save wrote")
    try:
        with safe_open(file, "pt") as opened:
            kind = (opened.metadata() or {}).get("format")
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}
    except (SafetensorError, OSError) as error:
        raise ArtefactError(f"{file} is damaged or not a safetensors file ({error})") from error
    offset, domain = tensors.get("offset"), tensors.get("domain")
    if kind != FORMAT or offset is None or offset.ndim != 1:
        raise ArtefactError(f"{file} was not written by SWB.save; it holds {', '.join(tensors)}")
    for tensor in tensors.values():
        if tensor.shape != offset.shape or not torch.isfinite(tensor).all():
            raise ArtefactError(f"{file} holds offsets that do not match or are not finite")
    return offset, domain


def read_official_offsets(path: str | PathLike[str], number: int, dummy: int | None) -> Offsets:
    """Offsets of a checkpoint of the official code's class "offset", epsilon_0 folded in.

    Raises:
        NotFoundError: There is no such file.
        ArtefactError: The file is no such checkpoint, or its pickle would run code.
        InputError: The checkpoint is of a steer, or it has no offset of that number.
    """
    options, state, _ = read_official(path)
    found = state.get("offset_vec")
    if found is None:
        raise InputError(
            f"{path} holds {', '.join(map(str, state))}, not offset_vec; a steer's checkpoint is "
            "read by lmsteer.storage.import_official"
        )
    if found.ndim != 2:
        raise ArtefactError(
            f"{path}: expected offset_vec of shape (steers, vocab), was: {tuple(found.shape)}"
        )
    for wanted in (number, *(() if dummy is None else (dummy,))):
        if not 0 <= wanted < len(found):
            raise InputError(f"{path} holds the offsets 0 to {len(found) - 1}, not {wanted}")
    scaled = float(options.get("epsilon", EPSILON)) * found.detach().float()
    return scaled[number].clone(), None if dummy is None else scaled[dummy].clone()
