"""What the files of a steer's folder hold, and the check of files that come from others.

``steer.safetensors`` holds P and Q, those of the domain part, and the fingerprint's sketch; its
header repeats the site and `Steer.where`. ``steer.json`` holds the rest, and the SHA-256 of the
tensors' file (see `facts`).
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ..errors import ArtefactError, InputError
from ..steer import Fingerprint, Steer, fault_of_numbers
from .facts import FACTS, SCHEMA, fault_of, measured, measurements, parse, read_facts

TENSORS, CARD = "steer.safetensors", "README.md"


def pack(steer: Steer) -> tuple[bytes, str]:
    """The contents of ``steer.safetensors`` and ``steer.json``.

    Args:
        steer: The steer to write, with its domain part.

    Raises:
        InputError: A record, calibration or effect that could not be read again.
    """
    tensors = {"P": steer.P, "Q": steer.Q}
    base, domain = None, None
    if steer.fingerprint is not None:
        tensors["fingerprint"] = steer.fingerprint.sketch
        base = {"name": steer.fingerprint.model, "revision": steer.fingerprint.revision}
    if steer.domain is not None:
        tensors |= {"domain.P": steer.domain.P, "domain.Q": steer.domain.Q}
        part = steer.domain
        domain = {"rank": part.rank, "record": dict(part.record), **measured(part)}
    header = {"format": "pt", "site": steer.site, "where": steer.where}
    blob = save({name: t.contiguous() for name, t in tensors.items()}, metadata=header)
    facts = {
        "format": "lmsteer",
        "schema": SCHEMA,
        "name": steer.name,
        "site": steer.site,
        "where": steer.where,
        "dim": steer.dim,
        "rank": steer.rank,
        "label": "strengths above 0 lead to texts like those with labels above 0",
        "sha256": hashlib.sha256(blob).hexdigest(),
        "base_model": base,
        "record": dict(steer.record),
        **measured(steer),
        "domain": domain,
    }
    return blob, _written(facts, steer.name)


def _written(facts: dict[str, Any], name: str) -> str:
    try:
        text = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        text.encode("utf-8")
        fault = fault_of(parse(text))
    except (TypeError, ValueError, RecursionError) as error:
        fault = f"it must hold what JSON can hold, with finite numbers alone ({error})"
    if fault is not None:
        raise InputError(f"the facts of steer {name!r} cannot be written: {fault}")
    return text


def unpack(blob: bytes, text: bytes) -> Steer:
    """The steer that the contents of two files describe.

    Args:
        blob: The contents of ``steer.safetensors``.
        text: The contents of ``steer.json``.

    Raises:
        ArtefactError: Contents that `pack` would not write; the message says what is wrong with
            which file, not where the file lies.
    """
    facts = read_facts(text)
    if "sha256" in facts and not belongs(blob, facts):
        raise ArtefactError(
            f"{TENSORS} is damaged, or belongs to another steer: its SHA-256 is not the one that "
            f"{FACTS} names; copy the whole folder again"
        )
    try:
        tensors = load(blob)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError(
            f"{TENSORS} is damaged or not a safetensors file ({error}); copy or train it again"
        ) from error
    _check_tensors(facts, tensors)
    name, mark = facts["name"], None
    told = {"site": facts["site"], "where": facts.get("where", "all")}
    header = _header(blob)
    for key, value in told.items():
        if header.get(key, value) != value:
            raise ArtefactError(
                f"{FACTS} says that the {key} of the steer is {value!r}, {TENSORS} says "
                f"{str(header[key])[:40]!r}; copy the whole folder again"
            )
    try:
        if facts["base_model"] is not None:
            mark = Fingerprint(sketch=tensors["fingerprint"].float(), **_base(facts))
        part = None
        if facts["domain"] is not None:
            part = Steer(
                tensors["domain.P"],
                tensors["domain.Q"],
                f"{name}.domain",
                fingerprint=mark,
                record=facts["domain"]["record"],
                **measurements(facts["domain"]),
                **told,
            )
        return Steer(
            tensors["P"],
            tensors["Q"],
            name,
            domain=part,
            fingerprint=mark,
            record=facts["record"],
            **measurements(facts),
            **told,
        )
    except InputError as error:
        raise ArtefactError(f"{FACTS}: {error}") from error


def belongs(blob: bytes, facts: dict[str, Any]) -> bool:
    """Whether `facts` names the checksum of these tensors."""
    return bool(hashlib.sha256(blob).hexdigest() == facts["sha256"])


def _base(facts: dict[str, Any]) -> dict[str, Any]:
    return {"model": facts["base_model"]["name"], "revision": facts["base_model"]["revision"]}


def _header(blob: bytes) -> dict[str, Any]:
    """What the header of the tensors' file says of the steer; loading it has checked its form."""
    size = int.from_bytes(blob[:8], "little")
    return dict(json.loads(blob[8 : 8 + size]).get("__metadata__") or {})


def _check_tensors(facts: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Raise unless shapes and types are what ``steer.json`` says, and all numbers are finite."""
    wanted = {"P": facts["rank"], "Q": facts["rank"]}
    if facts["domain"] is not None:
        wanted |= {"domain.P": facts["domain"]["rank"], "domain.Q": facts["domain"]["rank"]}
    for key, rank in wanted.items():
        shape = tuple(tensors[key].shape) if key in tensors else None
        if shape != (facts["dim"], rank):
            raise ArtefactError(
                f"{TENSORS}: expected {key} of shape {(facts['dim'], rank)} as {FACTS} says, "
                f"was: {shape or 'missing'}"
            )
    if facts["base_model"] is not None:
        wanted["fingerprint"] = 1
    for key in ("P", "Q", "domain.P", "domain.Q", "fingerprint"):
        if (key in tensors) != (key in wanted):
            raise ArtefactError(
                f"{TENSORS}: {key} is {'there' if key in tensors else 'missing'}, which {FACTS} "
                "does not say; copy the whole folder again"
            )
    for key in wanted:
        if fault := fault_of_numbers(tensors[key]):
            raise ArtefactError(f"{TENSORS}: {key} {fault}")
    if "fingerprint" in wanted and tensors["fingerprint"].ndim != 1:
        raise ArtefactError(f"{TENSORS}: the fingerprint must be one row of numbers")
