"""Unpacked copies of GGUF models in the user's cache, so that only the first load takes long.

A copy is a folder of safetensors, named by the SHA-256 of the GGUF file. It is written beside its
place and renamed; last of all, a mark beside it lists the SHA-256 of its files. Each load compares
them, so that a copy that is damaged, or not whole, is made again.

The weights are rounded to float16 (float32 where a number is too large for it), at the first load
as at later ones: all loads give the same weights. On SmolLM2-135M-Instruct (Q4_1) and 1,072 tokens
of review sentences the rounding costs a divergence of 2e-6 nats per token. bfloat16, which takes as
much room, costs 7e-5 and moves single scores by up to 0.19; with float16 it is 0.04.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import torch

from ..errors import LmsteerWarning
from .gguf import Gguf, read_gguf, sha256_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FORMAT = 1
_WAIT = 900.0
"""Seconds to wait while another process unpacks the same file."""
_TIMES = 4.5
"""How much larger than the file a copy is at most: float16 against somewhat less than 4 bits."""


def cache_folder() -> Path:
    """Where lmsteer keeps what it can make again: ``LMSTEER_CACHE``, else the system's place."""
    if chosen := os.environ.get("LMSTEER_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "lmsteer"


def place_of(digest: str) -> Path:
    """Where the unpacked copy of the file with this SHA-256 lies, if there is one."""
    return cache_folder() / "models" / digest


def mark_of(digest: str) -> Path:
    """The file beside the copy that says what it was written as."""
    return place_of(digest).with_suffix(".json")


def is_kept(digest: str) -> bool:
    """Whether there seems to be an unpacked copy for this transformers; a load looks closely."""
    return _mark(digest) is not None


def unpacked(gguf: Gguf) -> Path | tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The folder of the unpacked copy; the model itself where the cache cannot be written.

    Args:
        gguf: The file; it may have no parts left where a copy has been kept.

    Raises:
        ArtefactError: The file is damaged, or not the one that was expected.
        UnsupportedError: A kind of model that transformers does not unpack.
        FileNotFoundError: There is no whole copy, and nothing to make one of.
    """
    place = place_of(gguf.digest)
    if _is_whole(place, gguf.digest):
        return place
    if not gguf.parts:
        why = "is damaged" if is_kept(gguf.digest) else "is missing, or of a later transformers"
        raise FileNotFoundError(f"the unpacked copy of {gguf.file} in {place} {why}")
    with contextlib.ExitStack() as stack:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_locked(place))
            if _is_whole(place, gguf.digest):  # another process was first
                return place
            fresh = stack.enter_context(_fresh(place))
            _check_room(gguf, place.parent)
        except (OSError, NotImplementedError) as error:
            _tell(gguf, error)
            fresh = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            return _read(gguf, fresh)
        model, tokenizer = _read(gguf, fresh)
        try:
            mark = _write(fresh, model, tokenizer, gguf.digest)
            if place.exists():  # damaged, or written by a later version
                shutil.rmtree(place)
            fresh.rename(place)
            mark_of(gguf.digest).write_text(mark, encoding="utf-8")
        except OSError as error:
            _tell(gguf, error)
            return model, tokenizer
        return place


def _read(gguf: Gguf, work: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model in float32 with its weights rounded as the copy has them, and its tokenizer."""
    with gguf.joined(work) as path:
        model, tokenizer, packing = read_gguf(path)
    narrow = _narrow(model)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(tensor.to(narrow))
    config: Any = model.config
    config.lmsteer_copy = {"file": gguf.file, "sha256": gguf.digest, "packing": packing}
    for name in ("quantization_config", "_model_name_or_path"):
        if hasattr(config, name):
            delattr(config, name)
    return model, tokenizer


def _narrow(model: PreTrainedModel) -> torch.dtype:
    """float16, unless a weight is beyond its range."""
    most = max(float(p.detach().abs().max()) for p in model.parameters() if p.numel())
    return torch.float16 if most <= torch.finfo(torch.float16).max else torch.float32


def _write(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, digest: str
) -> str:
    """Save the model and the tokenizer; returns what the mark says of them."""
    import transformers

    narrow = _narrow(model)
    weights, seen = {}, dict[int, torch.Tensor]()  # tied tables stay one tensor
    for name, tensor in model.state_dict().items():
        kind = narrow if tensor.is_floating_point() else tensor.dtype
        weights[name] = seen.setdefault(tensor.data_ptr(), tensor.to(kind))
    model.save_pretrained(folder, state_dict=weights)
    tokenizer.save_pretrained(folder)
    # Most models compute in bfloat16 on an accelerator, and some overflow in float16.
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config.pop("torch_dtype", None)
    path.write_text(json.dumps({**config, "dtype": "bfloat16"}, indent=2), encoding="utf-8")
    files = {}
    for file in sorted(p for p in folder.iterdir() if p.is_file()):
        _flush(file)
        files[file.name] = sha256_of(file)
    told = {
        "format": FORMAT,
        "gguf": digest,
        "transformers": transformers.__version__,
        "files": files,
    }
    return json.dumps(told, indent=1) + "\n"


def _mark(digest: str) -> dict[str, str] | None:
    """The files of a copy and their SHA-256; none of a copy that this version cannot read.

    What a later transformers wrote, an earlier one does not always read: it makes a copy of its
    own in the same place, which both read.
    """
    from importlib.metadata import version  # quicker than an import of transformers

    from packaging.version import Version

    try:
        told = json.loads(mark_of(digest).read_text(encoding="utf-8"))
        if (told["format"], told["gguf"]) != (FORMAT, digest):
            return None
        if Version(told["transformers"]) > Version(version("transformers")):
            return None
        files = told["files"]
        named = all(Path(name).name == name and isinstance(files[name], str) for name in files)
        return files if files and named else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _is_whole(place: Path, digest: str) -> bool:
    """Whether a copy is as it was written."""
    files = _mark(digest)
    try:
        return files is not None and all(sha256_of(place / n) == f for n, f in files.items())
    except OSError:
        return False


@contextlib.contextmanager
def _locked(place: Path) -> Iterator[None]:
    """One process at a time makes a copy; `Timeout` of filelock is an OSError."""
    from filelock import FileLock

    with FileLock(f"{place}.lock", timeout=_WAIT):
        yield


@contextlib.contextmanager
def _fresh(place: Path) -> Iterator[Path]:
    """A new folder beside the place of a copy; those that killed processes left are removed."""
    for left in place.parent.glob(f"{place.name}.new-*"):
        shutil.rmtree(left, ignore_errors=True)
    fresh = place.with_name(f"{place.name}.new-{uuid4().hex}")
    fresh.mkdir()
    try:
        yield fresh
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _check_room(gguf: Gguf, folder: Path) -> None:
    needed, free = int(gguf.size() * _TIMES), shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(f"{free / 1e6:.0f} MB are free in {folder}, {needed / 1e6:.0f} are needed")


def _tell(gguf: Gguf, error: BaseException) -> None:
    warnings.warn(
        f"no unpacked copy of {gguf.file} is kept, so that each load takes as long as this one: "
        f"{error}; name a folder that can be written in LMSTEER_CACHE",
        LmsteerWarning,
        stacklevel=4,
    )


def _flush(path: Path) -> None:
    """Wait until the disk holds the file."""
    with contextlib.suppress(OSError), path.open("rb+") as file:
        os.fsync(file.fileno())
