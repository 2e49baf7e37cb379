"""Reads checkpoints of the official code (github.com/Glaciohound/LM-Steer) as steers.

A checkpoint is a pickle of ``[args, state, step]``: an `argparse.Namespace`, tensors, a number. It
is read with ``weights_only=True``, which allows nothing else, so a file cannot run code.
"""

from __future__ import annotations

import argparse
import pickle
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArtefactError, InputError, NotFoundError, UnsupportedError
from ..model import fingerprint, head_dim
from ..steer import Steer

_REFUSED = {
    "add_vec": "it adds one learned vector to every hidden state (class 'add'), which is no map on "
    "the embeddings: no strength of a steer can express it",
    "offset_vec": "it adds one learned offset to every score (class 'offset', the paper's soft "
    "word blacklist); read it in Python: "
    "lmsteer.research.methods.SWB.from_official(path).save(file)",
}
EPSILON = 1e-3
"""The official default, should the file not say."""


def import_official(
    path: str | PathLike[str],
    *,
    model: nn.Module | None = None,
    steer: int = 0,
    dummy: int | None = None,
    name: str | None = None,
) -> Steer:
    """Read an official checkpoint.

    Its epsilon_0 is folded into the map, so strength 5 is what the paper writes as 5 epsilon_0.

    Args:
        path: The ``.pt`` file.
        model: The model that it was trained on. Its width is checked, and its fingerprint is kept
            with the steer. If None, the steer attaches to any model of that width.
        steer: The number of the steer in the file, from 0.
        dummy: The number of the dummy steer, which becomes the domain part; the official recipe
            has it last. If None, there is no domain part.
        name: What to call the steer; by default the name of the file.

    Raises:
        NotFoundError: No such file.
        ArtefactError: Not such a checkpoint, or a pickle that would run code.
        UnsupportedError: A checkpoint of the classes "add" and "offset".
        InputError: No steer of that number, or a model of another width.
    """
    path = Path(path)
    options, state, step = read_official(path)
    for key, reason in _REFUSED.items():
        if key in state:
            raise UnsupportedError(f"{path} cannot become a steer: {reason}")
    first, second = state["projector1"], state["projector2"]
    count, dim, _ = first.shape
    for number in (steer, *(() if dummy is None else (dummy,))):
        if not 0 <= number < count:
            raise InputError(f"{path} holds the steers 0 to {count - 1}, was asked for {number}")
    mark = None
    if model is not None:
        mark = fingerprint(model, "output")
        width = head_dim(model)
        if width != dim:
            raise InputError(
                f"{path} was trained on a model of width {dim}, this one has {width}: it was "
                f"trained on {options.get('model_name', 'another model')!r}"
            )
    name = name or path.stem
    record = {
        "solver": "official checkpoint",
        "step": step,
        "official": {k: v for k, v in options.items() if isinstance(v, str | int | float | None)},
    }
    epsilon = float(options.get("epsilon", EPSILON))

    def part(number: int, name: str, **facts: Any) -> Steer:
        return Steer(epsilon * first[number].float(), second[number].float(), name, **facts)

    domain = None
    if dummy is not None:
        domain = part(dummy, f"{name}.domain", fingerprint=mark, record={"part": "domain"})
    return part(steer, name, domain=domain, fingerprint=mark, record=record)


def read_official(path: str | PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor], int]:
    """The options, tensors and step number of an official checkpoint of any class.

    Raises:
        NotFoundError: No such file.
        ArtefactError: Not such a checkpoint, or a pickle that would run code.
    """
    path = Path(path)
    if not path.is_file():
        raise NotFoundError(f"no file {path}; expected a checkpoint of the official code")
    expected = (
        "expected a checkpoint of the official code: a list of an argparse.Namespace, a dict of "
        "tensors (projector1, projector2) and a step number"
    )
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ArtefactError(
            f"{path} holds more than numbers, and loading it could run code, so it was not "
            f"loaded ({str(error).splitlines()[0]}); {expected}"
        ) from error
    except (RuntimeError, EOFError, ValueError) as error:
        raise ArtefactError(f"{path} cannot be read ({error}); {expected}") from error
    if not isinstance(found, list | tuple) or len(found) != 3:
        raise ArtefactError(f"{path} holds a {type(found).__name__}; {expected}")
    options, state, step = found
    if not isinstance(options, argparse.Namespace) or not isinstance(state, dict):
        raise ArtefactError(f"{path} is of another kind; {expected}")
    if not state.keys() & {"add_vec", "offset_vec"}:
        shapes = [getattr(state.get(key), "shape", None) for key in ("projector1", "projector2")]
        if shapes[0] is None or shapes[0] != shapes[1] or len(shapes[0]) != 3:
            raise ArtefactError(f"{path} holds {', '.join(map(str, state))}; {expected}")
    return vars(options), state, int(step)
