"""Steers in a running llama.cpp, through llama-cpp-python: any strengths, changed between calls."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping
from os import PathLike
from typing import Any

from ..errors import ArtefactError, InputError, MissingExtraError


class Adapters:
    """LoRA files that `lmsteer.export.export_gguf` wrote, loaded into one ``llama_cpp.Llama``.

    Args:
        llm: The model; its file must hold the head, as ``base.gguf`` does.
        files: The path of each steer's file, by the steer's name.

    Raises:
        MissingExtraError: llama-cpp-python is absent (extra ``llama``).
        ArtefactError: A file that does not fit this model.
    """

    def __init__(self, llm: Any, files: Mapping[str, str | PathLike[str]]) -> None:
        try:
            import llama_cpp
        except ImportError as error:
            raise MissingExtraError("llama_cpp", "llama", "running llama.cpp") from error
        self._library, self._llm = llama_cpp, llm
        self._loaded: dict[str, Any] = {}
        for name, file in files.items():
            adapter = llama_cpp.llama_adapter_lora_init(llm.model, str(file).encode())
            if not adapter:  # a null pointer
                raise ArtefactError(
                    f"llama.cpp cannot load {file} on this model: it must be of the same "
                    "architecture and size, and its file must hold output.weight (lmsteer export "
                    "gguf writes both)"
                )
            self._loaded[name] = adapter

    def use(self, strengths: Mapping[str, float]) -> None:
        """Steer from now on at these signed strengths alone; ``{}`` is the base model.

        The cache stays valid: it does not depend on the strengths.

        Raises:
            InputError: An unknown name, or a strength that is not finite.
        """
        for name, strength in strengths.items():
            if name not in self._loaded:
                raise InputError(f"no steer {name!r} is loaded; loaded are {[*self._loaded]}")
            if not math.isfinite(strength):
                raise InputError(f"the strength of {name!r} must be finite, was: {strength}")
        fixed = {name: float(s) for name, s in strengths.items() if s}
        count, library = len(fixed), self._library
        handles = (library.llama_adapter_lora_p_ctypes * count)(*(self._loaded[n] for n in fixed))
        scales = (ctypes.c_float * count)(*fixed.values())
        if library.llama_set_adapters_lora(self._llm.ctx, handles, count, scales):
            raise InputError(f"llama.cpp refused the strengths {fixed}")
