"""Statistics on disk: a folder of ``statistics.safetensors`` and ``statistics.json``.

The first holds the sums (float64), the sample and the fingerprint's sketch, the second the counts
and the SHA-256 of the first. The sample holds hidden states of some tokens and their ids: whoever
has the folder can tell a part of the words of the texts. It is written as any folder of ours
(`folders`), and what comes from others is checked before it is used.
"""

from __future__ import annotations

import hashlib
import json
import os
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ..errors import ArtefactError, NotFoundError
from ..states import SUMS, Expected, States, Statistics
from ..steer import Fingerprint
from .facts import parse
from .folders import check_place, place, tidy, writing

FACTS, TENSORS = "statistics.json", "statistics.safetensors"
_FORMAT, _SCHEMA, _MOST_FACTS = "lmsteer-statistics", 1, 1 << 20
_SEEN = ("weight", "moments", "crossed", "spread")
_SAMPLE = ("hidden", "targets", "text", "labels", "weights")
_WHOLE, _NUMBERS = ("sample.targets", "sample.text"), (torch.float32, torch.bfloat16)
_COUNTS = ("texts", "tokens", "sampled", "styles", "dim")


def check_statistics_writable(path: str | PathLike[str], *, force: bool) -> None:
    """Raise InputError if `save_statistics` would refuse to write; call it before long work."""
    check_place(path, FACTS, "a folder of statistics", force=force)


def save_statistics(
    statistics: Statistics, path: str | PathLike[str], *, force: bool = False
) -> None:
    """Write statistics as a folder, whole or not at all.

    Args:
        statistics: The statistics to write.
        path: The folder to make; its parents are made too. Links are followed.
        force: Whether statistics that are already there are replaced. No other folder ever is.

    Raises:
        InputError: `path` exists and may not be replaced, or another process is writing it.
    """
    tensors = dict(zip(SUMS, statistics.tensors(), strict=True))
    seen = zip(_SEEN, statistics.expected.tensors(), strict=True)
    tensors |= {f"expected.{name}": total for name, total in seen}
    tensors |= {f"sample.{name}": getattr(statistics.sample, name) for name in _SAMPLE}
    mark = statistics.fingerprint
    tensors["fingerprint"] = mark.sketch
    blob = save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()})
    facts = {
        "format": _FORMAT,
        "schema": _SCHEMA,
        **{name: getattr(statistics, name) for name in _COUNTS},
        "base_model": {"name": mark.model, "revision": mark.revision},
        "sha256": hashlib.sha256(blob).hexdigest(),
    }
    with writing(path, lambda: check_statistics_writable(path, force=force)) as fresh:
        (fresh / TENSORS).write_bytes(blob)
        (fresh / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def load_statistics(path: str | PathLike[str]) -> Statistics:
    """Read a folder that `save_statistics` wrote.

    Raises:
        NotFoundError: There is no such folder.
        ArtefactError: A folder that is incomplete, damaged, from a newer version, or of another
            kind.
    """
    folder = Path(path)
    if not os.path.isdir(folder):
        raise NotFoundError(f"no statistics at {folder}: expected a folder with {FACTS}")
    tidy(folder)
    try:
        facts = _facts(place(folder, FACTS))
        blob = place(folder, TENSORS).read_bytes()
    except FileNotFoundError as error:
        name = Path(str(error.filename)).name
        raise ArtefactError(f"{folder} has no {name}; copy the whole folder again") from error
    except OSError as error:
        raise ArtefactError(f"{folder} cannot be read ({error.strerror})") from error
    except ArtefactError as error:
        raise ArtefactError(f"{folder} cannot be read: {error}") from error
    if hashlib.sha256(blob).hexdigest() != facts["sha256"]:
        raise ArtefactError(f"{folder}: {TENSORS} is damaged; copy the whole folder again")
    try:
        tensors = load(blob)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{folder}: {TENSORS} is no safetensors file ({error})") from error
    _check(folder, facts, tensors)
    sample: dict[str, Any] = {name: tensors[f"sample.{name}"] for name in _SAMPLE}
    return Statistics.of(
        (facts["texts"], facts["tokens"]),
        [tensors[name] for name in SUMS],
        Expected(*(tensors[f"expected.{name}"] for name in _SEEN)),
        States(**sample),
        facts["sampled"],
        Fingerprint(
            sketch=tensors["fingerprint"],
            model=facts["base_model"]["name"],
            revision=facts["base_model"]["revision"],
        ),
    )


def _facts(path: Path) -> dict[str, Any]:
    """What ``statistics.json`` says, if it is whole."""
    if path.stat().st_size > _MOST_FACTS:
        raise ArtefactError(f"{FACTS} is larger than {_MOST_FACTS >> 20} MiB")
    try:
        facts = parse(path.read_bytes().decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{FACTS} is not JSON ({error}); copy it again") from error
    if not isinstance(facts, dict) or facts.get("format") != _FORMAT:
        raise ArtefactError(f"{FACTS} does not hold statistics of lmsteer")
    if facts.get("schema") != _SCHEMA:
        raise ArtefactError(
            f"{FACTS} has schema {str(facts.get('schema'))[:20]}, this version reads {_SCHEMA}; "
            "upgrade lmsteer"
        )
    base = facts.get("base_model")
    base = base if isinstance(base, dict) else {"name": None}
    counts = [facts.get(name) for name in _COUNTS]
    if (
        not all(isinstance(text, str) for text in (base.get("name"), facts.get("sha256")))
        or not isinstance(base.get("revision"), str | None)
        or not all(type(count) is int and count >= 0 for count in counts)
    ):
        raise ArtefactError(f"{FACTS} is not whole; copy it again")
    return facts


def _check(folder: Path, facts: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Raise unless shapes and types are what the facts say, and all numbers are finite."""
    dim, z = facts["dim"], facts["styles"] + 1
    held = len(tensors["sample.targets"]) if "sample.targets" in tensors else 0
    shapes: dict[str, tuple[int, ...]] = {
        "weight": (z, z),
        "rows": (z, dim),
        "pull": (z, dim, dim),
        "inner": (z * (z + 1) // 2, dim, dim),
        "expected.weight": (),
        "expected.moments": (dim + 1, dim + 1),
        "expected.crossed": (dim + 1, dim),
        "expected.spread": (dim, dim),
        "sample.hidden": (held, dim),
        "sample.targets": (held,),
        "sample.text": (held,),
        "sample.labels": (held, z - 1),
        "sample.weights": (held,),
    }
    for name, shape in shapes.items():
        found = tensors.get(name)
        if found is None or tuple(found.shape) != shape:
            was = "missing" if found is None else tuple(found.shape)
            raise ArtefactError(f"{folder}: expected {name} of shape {shape}, was: {was}")
        numbers = (torch.float64,) if name in SUMS or name.startswith("expected") else _NUMBERS
        wanted = found.dtype in ((torch.int64,) if name in _WHOLE else numbers)
        if not wanted or not bool(torch.isfinite(found).all()):
            raise ArtefactError(f"{folder}: {name} holds what is no finite number of its kind")
    sketch = tensors.get("fingerprint")
    if sketch is None or sketch.ndim != 1 or not bool(torch.isfinite(sketch.float()).all()):
        raise ArtefactError(f"{folder}: the fingerprint is missing or damaged")
    text = tensors["sample.text"]
    if bool((tensors["sample.targets"] < 0).any()) or bool((text[1:] < text[:-1]).any()):
        raise ArtefactError(f"{folder}: the sample is damaged; copy the whole folder again")
