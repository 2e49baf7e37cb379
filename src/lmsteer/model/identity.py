"""Whether a steer was made for a model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..errors import MismatchError, UnsupportedError
from ..steer import Fingerprint, Site, Steer
from .sketch import is_plain, sketch
from .tables import _device, affine, head_dim, head_of, input_tables
from .wrappers import plain_layer, unwrap


def check_fit(model: nn.Module, steer: Steer) -> None:
    """Raise MismatchError unless the steer was made for this model's embeddings."""
    found = fingerprint(model, steer.site)
    dim = head_dim(model) if steer.site == "output" else input_dim(model)
    if steer.dim != dim:
        raise MismatchError(
            f"steer {steer.name!r} acts on embeddings of dim {steer.dim}, but this model's "
            f"{steer.site} embeddings have dim {dim}{_trained_on(steer)}; "
            "use a steer trained on this model, or lmsteer.transfer"
        )
    wanted = steer.fingerprint
    if wanted is not None and not wanted.matches(found):
        raise MismatchError(
            f"steer {steer.name!r} was trained on other weights{_trained_on(steer)}: the "
            f"fingerprints agree to cosine {wanted.similarity(found):.3f}, 0.99 is needed; "
            "use a steer trained on this model, or lmsteer.transfer"
        )


def check_everywhere(steer: Steer, acting: str) -> None:
    """Raise UnsupportedError for a steer of the prompt alone, where every position is steered.

    Args:
        steer: The steer to check.
        acting: What steers every position, as the message names it.
    """
    if steer.where != "all":
        raise UnsupportedError(
            f"steer {steer.name!r} was trained to act on the prompt alone, and {acting} acts on "
            "every position alike. Use lmsteer.attach or lmsteer.generate, which steer the prompt "
            'and nothing else, or train a steer with where="all"'
        )


def _trained_on(steer: Steer) -> str:
    name = steer.fingerprint.model if steer.fingerprint is not None else ""
    return f" (it was trained on {name!r})" if name else ""


def input_dim(model: nn.Module) -> int:
    """The dimension of the input embeddings."""
    return int(input_tables(model)[0].weight.shape[1])


def fingerprint(model: nn.Module, site: Site = "output") -> Fingerprint:
    """The sketch of the table that steers of this site act on; cached until the table changes."""
    # The table itself, since adapters hardly change the directions of the embeddings.
    module = plain_layer(head_of(model) if site == "output" else input_tables(model)[0])
    weight = module.weight
    place = weight.data_ptr() if is_plain(weight) else id(weight)
    version = 0 if weight.is_inference() else weight._version
    state = (place, version, tuple(weight.shape))
    if module not in _SKETCHES or _SKETCHES[module][0] != state:
        table = affine(module)[0] if site == "output" else _rows(module)
        _SKETCHES[module] = (state, sketch(table))
    # The path of a local folder or file is private; its last part is the name.
    inside: Any = unwrap(model)
    name = str(getattr(inside.config, "_name_or_path", "") or type(inside).__name__)
    name = Path(name).name if os.path.exists(name) else name
    revision = getattr(inside.config, "_commit_hash", None)
    return Fingerprint(sketch=_SKETCHES[module][1], model=name, revision=revision)


def copied_from(model: nn.Module) -> dict[str, str] | None:
    """The GGUF file that a model's weights were unpacked from; None where there was none.

    Returns:
        The ``file``'s name, its ``sha256``, and its ``packing``, such as ``"Q4_1"``.
    """
    inside: Any = unwrap(model)
    told = getattr(getattr(inside, "config", None), "lmsteer_copy", None)
    if not isinstance(told, dict):
        return None
    return {key: str(told.get(key, ""))[:200] for key in ("file", "sha256", "packing")}


def _rows(table: Any) -> Tensor:
    """The rows of an input table, also where accelerate loads them only when they are used."""
    if table.weight.device.type != "meta":
        rows: Tensor = table.weight.detach()
        return rows
    every: Tensor = table.forward(torch.arange(table.weight.shape[0], device=_device(table)))
    return every


_SKETCHES: WeakKeyDictionary[nn.Module, tuple[tuple[Any, ...], Tensor]] = WeakKeyDictionary()
