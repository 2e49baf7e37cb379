"""How commands open a model, with other libraries hushed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .display import err, escape, hush_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..export import Checkpoint


def open_model(
    name: str, *, device: str | None = None, dtype: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model and its tokenizer, as ``--model``, ``--device`` and ``--dtype`` ask for them."""
    from ..model import load_model

    hush_transformers()
    _tell(name)
    return load_model(name, device=device, dtype=dtype)


def open_weights(name: str) -> Checkpoint:
    """A model for export, of whose weights only the word tables are read."""
    from ..export import open_checkpoint

    hush_transformers()
    _tell(name)
    return open_checkpoint(name)


def _tell(name: str) -> None:
    """Say that the first load of a GGUF file takes its time."""
    from ..model import takes_long

    if takes_long(name):
        err.print(
            f"unpacking {escape(name)}, which takes about a minute; later loads take seconds",
            soft_wrap=True,
        )
