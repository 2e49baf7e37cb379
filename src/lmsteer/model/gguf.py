"""GGUF files: what a file says of itself, read without trusting it, and its model and tokenizer.

transformers unpacks the weights. From 5.24 on it can keep some of them packed, on devices that have
a kernel for it; but training, fingerprints and exports read word tables as plain numbers, so all
are unpacked.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..errors import ArtefactError, InputError, LmsteerError, UnsupportedError
from .gguf_tokens import read_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_NUMBERS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
_TEXT, _ARRAY = 8, 9
_MOST_ENTRIES = 65_536
_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Gguf:
    """A GGUF file, which may lie in several parts.

    Args:
        parts: The files that hold its bytes, in order; none where only the unpacked copy is left.
        file: The file's name.
        digest: The SHA-256 of its bytes, in hexadecimal.
        model: What people call the model that it holds.
    """

    parts: tuple[Path, ...]
    file: str
    digest: str
    model: str

    def size(self) -> int:
        """The number of bytes."""
        return sum(part.stat().st_size for part in self.parts)

    @contextlib.contextmanager
    def joined(self, folder: Path) -> Iterator[Path]:
        """One file with all the bytes; parts are joined into `folder` for the time of the block.

        Raises:
            ArtefactError: The bytes are not those of the digest.
        """
        whole = self.parts[0] if len(self.parts) == 1 else folder / "joined.gguf"
        digest = hashlib.sha256()
        try:
            with contextlib.ExitStack() as files:
                out = files.enter_context(whole.open("xb")) if len(self.parts) > 1 else None
                for part in self.parts:
                    for chunk in _chunks(part):
                        digest.update(chunk)
                        if out is not None:
                            out.write(chunk)
            if digest.hexdigest() != self.digest:
                raise ArtefactError(
                    f"{self.file} is not the file that was expected: its SHA-256 is "
                    f"{digest.hexdigest()}, expected {self.digest}; install its package again"
                )
            yield whole
        finally:
            if len(self.parts) > 1:
                whole.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    for chunk in _chunks(path):
        digest.update(chunk)
    return digest.hexdigest()


def find_gguf(folder: Path) -> Path | None:
    """The one GGUF file of a folder without other weights; None where the folder is none such.

    Raises:
        InputError: There are several.
    """
    if any(folder.glob("*.safetensors")) or any(folder.glob("*.bin")):
        return None
    found = sorted(p for p in folder.glob("*.gguf") if not p.name.startswith("mmproj"))
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:5])
        raise InputError(f"{folder} holds several GGUF files ({names}); give one of the files")
    return found[0] if found else None


def read_gguf(path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, str]:
    """The model of a GGUF file in float32, its tokenizer, and how its weights were packed.

    Raises:
        ArtefactError: The file is damaged, or not a GGUF file.
        UnsupportedError: A kind of model that transformers does not unpack.
    """
    import transformers
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    header = read_header(path)
    if int(header.get("split.count") or 1) > 1:
        raise UnsupportedError(
            f"{path} is one of several files of a model; join them first, with llama.cpp's "
            "llama-gguf-split --merge"
        )
    kind = header.get("general.architecture")
    family = AutoModelForSeq2SeqLM if kind == "t5" else AutoModelForCausalLM
    options: dict[str, Any] = {"gguf_file": path.name, "dtype": torch.float32}
    unpacking = getattr(transformers, "GgufConfig", None)  # transformers before 5.24 always unpacks
    if unpacking is not None:
        options["quantization_config"] = unpacking(dequantize=True)
    loading: Any = family
    try:
        tokenizer = read_tokenizer(path, header)
        model, told = loading.from_pretrained(path.parent, output_loading_info=True, **options)
    except (ImportError, LmsteerError):
        raise
    except Exception as error:  # readers of others, on a file of strangers: anything may come
        raise UnsupportedError(
            f"transformers {transformers.__version__} cannot unpack {path} (a model of kind "
            f"{str(kind)[:50]!r}): {str(error)[:300]}"
        ) from error
    if told["missing_keys"]:
        lacking = ", ".join(sorted(told["missing_keys"])[:3])
        raise ArtefactError(f"{path} lacks weights of the model: {lacking}; copy the file again")
    return model, tokenizer, _packing(header)


def _packing(header: dict[str, Any]) -> str:
    """The kind of the packed weights, such as ``"Q4_1"``; "" where the file does not say."""
    from gguf import LlamaFileType

    try:
        name = LlamaFileType(int(header.get("general.file_type", -1))).name
    except (ValueError, TypeError):
        return ""
    return name.removeprefix("MOSTLY_").removeprefix("ALL_")


def read_header(path: Path) -> dict[str, Any]:
    """What a GGUF file says of itself, by key; arrays are lists.

    The library gguf reads the same, but as an object for each word of the vocabulary, which takes
    seconds.

    Raises:
        ArtefactError: The file is damaged, or not a GGUF file.
    """
    try:
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            return _Header(data).read()
    except (ValueError, struct.error, UnicodeDecodeError, OverflowError) as error:
        raise ArtefactError(f"{path} is not a GGUF file, or damaged: {error}") from error


class _Header:
    """The bytes of a header, read from the start on. Nothing outside the file is ever read."""

    def __init__(self, data: Any) -> None:
        self.data, self.at = data, 0

    def read(self) -> dict[str, Any]:
        if self._take(4) != b"GGUF":
            raise ValueError("it does not begin with GGUF")
        version = self._number("I")
        if version not in (2, 3):
            raise ValueError(f"version {version} of the format, expected 2 or 3")
        self._number("Q")  # the number of tensors
        count = self._number("Q")
        if count > _MOST_ENTRIES:
            raise ValueError(f"{count} entries")
        return {self._text(): self._value(self._number("I")) for _ in range(count)}

    def _take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise ValueError("it ends too early")
        self.at += count
        taken: bytes = self.data[self.at - count : self.at]
        return taken

    def _number(self, kind: str) -> Any:
        return struct.unpack(f"<{kind}", self._take(struct.calcsize(f"<{kind}")))[0]

    def _text(self) -> str:
        return self._take(self._number("Q")).decode("utf-8", errors="replace")

    def _value(self, kind: int) -> Any:
        if kind == _TEXT:
            return self._text()
        if kind != _ARRAY:
            if kind not in _NUMBERS:
                raise ValueError(f"a value of the unknown kind {kind}")
            return self._number(_NUMBERS[kind])
        inner, count = self._number("I"), self._number("Q")
        if inner == _TEXT:
            if count > len(self.data) // 8:
                raise ValueError("it ends too early")
            return [self._text() for _ in range(count)]
        if inner not in _NUMBERS:
            raise ValueError(f"an array of the unknown kind {inner}")
        size = struct.calcsize(f"<{_NUMBERS[inner]}")
        return list(struct.unpack(f"<{count}{_NUMBERS[inner]}", self._take(size * count)))


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
