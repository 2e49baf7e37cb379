"""`load_model`: a bundled model, a local folder or a Hub id, on a suitable device and dtype."""

from __future__ import annotations

from importlib import resources
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..errors import InputError, NotFoundError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BUNDLED_MODELS = ("bundled", "bundled-small")


def load_model(
    name_or_path: str | PathLike[str] = "bundled",
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model and its tokenizer, ready to be steered.

    Args:
        name_or_path: ``"bundled"`` or ``"bundled-small"`` (come with the package), a local folder,
            or a Hub id.
        device: ``"cuda"``, ``"mps"``, ``"cpu"``, ...; by default the fastest of this machine.
            ``"auto"`` spreads a big model over all devices (it needs accelerate).
        dtype: A torch dtype or its name; by default the checkpoint's own on an accelerator and
            float32 on the CPU, where half precision is slow.
        revision: The branch, tag or commit on the Hub.
        trust_remote_code: Whether to run code that comes with the model; only if you trust its
            author.

    Returns:
        ``(model, tokenizer)``; the model is in eval mode and its parameters are frozen.

    Raises:
        NotFoundError: There is no such model here or on the Hub.
        InputError: The dtype is unknown, or this machine does not have the device.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    source = _locate(str(name_or_path))
    where = str(device) if device is not None else _best_device()
    precision = _dtype(dtype, where)
    options = {"revision": revision, "trust_remote_code": trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(source, **options)
        family = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        placement = {"device_map": "auto"} if where == "auto" else {}
        model: Any = family.from_pretrained(source, dtype=precision, **placement, **options)
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
    except (OSError, ValueError) as error:
        raise NotFoundError(f"could not load the model {str(name_or_path)!r}: {error}") from error
    if where != "auto":
        try:
            model = model.to(where)
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"this machine has no usable device {where!r}: {error}") from error
    return model.eval().requires_grad_(False), tokenizer


def model_folder(name_or_path: str | PathLike[str], *, revision: str | None = None) -> Path:
    """The folder of a model's files, downloaded from the Hub if necessary; nothing is loaded.

    Args:
        name_or_path: The model, as for `load_model`.
        revision: The branch, tag or commit on the Hub.

    Raises:
        NotFoundError: There is no such model here or on the Hub.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    source = Path(_locate(str(name_or_path)))
    if source.is_dir():
        return source
    patterns = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]
    try:
        return Path(
            snapshot_download(str(name_or_path), revision=revision, allow_patterns=patterns)
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise NotFoundError(f"could not find the model {str(name_or_path)!r}: {error}") from error


def _locate(name: str) -> str:
    """The folder of a bundled model; any other name as it is."""
    if name not in BUNDLED_MODELS or Path(name).is_dir():
        return name
    folder = resources.files("lmsteer") / "assets" / "models" / name
    if not (folder / "config.json").is_file():
        raise NotFoundError(f"this installation lacks the model {name!r}; install lmsteer again")
    return str(folder)


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
