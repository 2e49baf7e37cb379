"""`load_model`: a bundled or known model, a local folder, a GGUF file or a Hub id."""

from __future__ import annotations

import os
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..errors import InputError, NotFoundError
from .gguf import Gguf, find_gguf, sha256_of
from .known import (
    BUNDLED_MODELS,
    KNOWN,
    Known,
    bundled_folder,
    canonical_name,
    check_on_hub,
    missing,
    packaged,
)
from .unpacked import is_kept, unpacked

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_model(
    name_or_path: str | PathLike[str] = "bundled",
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model and its tokenizer, ready to be steered.

    A GGUF file is unpacked, which takes a while; a copy is kept in the user's cache (see
    docs/models.md), so that later loads take seconds. All loads of a file give the same weights.

    Args:
        name_or_path: ``"bundled"`` or ``"bundled-small"`` (come with the package); ``"smollm2"`` or
            ``"gemma-3-270m"`` (come with a package of their own, else from the Hub); a local
            folder; a GGUF file, or a folder that holds one; or a Hub id.
        device: ``"cuda"``, ``"mps"``, ``"cpu"``, ...; by default the fastest of this machine.
            ``"auto"`` spreads a big model over all devices.
        dtype: A torch dtype or its name; by default the checkpoint's own on an accelerator and
            float32 on the CPU, where half precision is slow.
        revision: The branch, tag or commit on the Hub.
        trust_remote_code: Whether to run code that comes with the model; only if you trust its
            author. Nothing that comes with a GGUF file is ever run.

    Returns:
        ``(model, tokenizer)``; the model is in eval mode and its parameters are frozen.

    Raises:
        NotFoundError: There is no such model here or on the Hub; for a known model the message
            has the command that brings it.
        InputError: The dtype is unknown, this machine does not have the device, or a folder holds
            several GGUF files.
        ArtefactError: A GGUF file is damaged.
        UnsupportedError: A GGUF file of a kind that transformers does not unpack.
    """
    where = str(device) if device is not None else _best_device()
    precision = _dtype(dtype, where)
    source = _locate(str(name_or_path))
    options = {"revision": revision, "trust_remote_code": trust_remote_code}
    if isinstance(source, Gguf):
        found = _unpacked(source)
        if isinstance(found, Path):
            model, tokenizer = _load(str(found), where, precision, {})
        else:
            model, tokenizer = found
            model = model.to(torch.bfloat16 if precision == "auto" else precision)
        _rename(model, tokenizer, source.model)
    else:
        try:
            model, tokenizer = _load(source, where, precision, options)
        except (OSError, ValueError) as error:
            raise NotFoundError(
                f"could not load the model {str(name_or_path)!r}: {error}{_hint(source)}"
            ) from error
    if where != "auto":
        try:
            model = model.to(where)
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"this machine has no usable device {where!r}: {error}") from error
    return model.eval().requires_grad_(False), tokenizer


def model_folder(name_or_path: str | PathLike[str], *, revision: str | None = None) -> Path:
    """The folder of a model's files, downloaded or unpacked if necessary; nothing is loaded.

    Args:
        name_or_path: The model, as for `load_model`.
        revision: The branch, tag or commit on the Hub.

    Raises:
        NotFoundError: There is no such model here or on the Hub.
        InputError: A GGUF file has to be unpacked, and the user's cache cannot be written.
        ArtefactError: A GGUF file is damaged.
        UnsupportedError: A GGUF file of a kind that transformers does not unpack.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    source = _locate(str(name_or_path))
    if isinstance(source, Gguf):
        found = _unpacked(source)
        if not isinstance(found, Path):
            raise InputError(
                f"{source.file} has to be unpacked into a folder, and the cache cannot be written; "
                "name a folder that can be in LMSTEER_CACHE"
            )
        return found
    if os.path.isdir(source):
        return Path(source)
    patterns = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]
    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise NotFoundError(
            f"could not find the model {str(name_or_path)!r}: {error}{_hint(source)}"
        ) from error


def shown_name(name_or_path: str | PathLike[str]) -> str:
    """What a model is called where its path or short name would mean nothing to others.

    Args:
        name_or_path: The model, as for `load_model`.
    """
    source = _locate(str(name_or_path))
    return source.model if isinstance(source, Gguf) else canonical_name(str(name_or_path))


def takes_long(name_or_path: str | PathLike[str]) -> bool:
    """Whether loading the model has to unpack a GGUF file first."""
    source = _locate(str(name_or_path))
    return isinstance(source, Gguf) and not is_kept(source.digest)


def whereabouts(known: Known) -> str:
    """Where this machine has a known model: ``"unpacked"``, ``"installed"`` or ``""``."""
    if is_kept(known.sha256):
        return "unpacked"
    return "installed" if packaged(known) else ""


def _locate(name: str) -> str | Gguf:
    """A GGUF file to unpack, or what transformers reads: a folder, or a Hub id."""
    if os.path.isdir(name):  # of any text; Path.is_dir raises for some
        file = find_gguf(Path(name))
        return name if file is None else _file(file)
    if name.lower().endswith(".gguf"):
        if not os.path.isfile(name):
            raise NotFoundError(f"there is no file {name!r}; give the path of a GGUF file")
        return _file(Path(name))
    if name in BUNDLED_MODELS:
        return str(bundled_folder(name))
    if name not in KNOWN:
        return name
    known = KNOWN[name]
    parts = packaged(known)
    if parts or is_kept(known.sha256):
        return Gguf(parts=parts, file=known.file, digest=known.sha256, model=known.hub)
    check_on_hub(known)
    return known.hub


def _file(path: Path) -> Gguf:
    digest = sha256_of(path)
    names = {known.sha256: known.hub for known in KNOWN.values()}
    return Gguf(parts=(path,), file=path.name, digest=digest, model=names.get(digest, str(path)))


def _unpacked(gguf: Gguf) -> Path | tuple[Any, Any]:
    try:
        return unpacked(gguf)
    except FileNotFoundError as error:
        for known in KNOWN.values():
            if known.sha256 == gguf.digest:
                raise NotFoundError(missing(known, error)) from error
        raise


def _load(
    source: str, where: str, precision: str | torch.dtype, options: dict[str, Any]
) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    config = AutoConfig.from_pretrained(source, **options)
    family = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    placement = {"device_map": "auto"} if where == "auto" else {}
    model = family.from_pretrained(source, dtype=precision, **placement, **options)
    return model, AutoTokenizer.from_pretrained(source, **options)


def _rename(model: Any, tokenizer: Any, name: str) -> None:
    """Let the model be called what people call it, not by a path of this machine's cache."""
    model.name_or_path = model.config._name_or_path = tokenizer.name_or_path = name


def _hint(source: str) -> str:
    """What to say of an original that could not be had, where a copy of it is known."""
    for known in KNOWN.values():
        if known.hub == source:
            return f". A quantised copy of it is known as {known.name!r}: {known.command}"
    return ""


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _dtype(dtype: str | torch.dtype | None, device: str) -> str | torch.dtype:
    if dtype is None:
        return torch.float32 if device.startswith("cpu") else "auto"
    if isinstance(dtype, torch.dtype) or dtype == "auto":
        return dtype
    found = getattr(torch, dtype, None)
    if not isinstance(found, torch.dtype):
        raise InputError(
            f'unknown dtype {dtype!r}; expected "auto", "float32", "bfloat16" or "float16"'
        )
    return found
