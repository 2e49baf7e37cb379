"""Steers by name, and the strengths that a request asks for; no engine is imported here."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import InputError, NotFoundError, UnsupportedError
from ..model import check_everywhere
from ..steer import Steer, resolve_strength
from ..storage import pull_steer, read_steer

VARIABLE = "LMSTEER_STEERS"
_LARGEST = 1e6  # a strength past this would only turn scores into infinities
_SHOWN = 200  # characters of a request in a message


def named_steers(spec: str | None = None) -> Mapping[str, Steer]:
    """The steers that requests may name.

    Args:
        spec: ``"sentiment=/steers/sentiment,detox=user/detox"``: names with folders or Hub ids,
            separated by commas; where no name is given, the steer's own name is used. The default
            is the value of the environment variable ``LMSTEER_STEERS``, or what `serve` was given.
            The domain part of each steer can be named too, as ``NAME.domain``.

    Raises:
        InputError: Two steers of one name, or an empty entry.
        NotFoundError: No such steer.
        ArtefactError: A folder that cannot be read.
    """
    return _read((os.environ.get(VARIABLE) or _SERVED.get("", "")) if spec is None else spec)


def serve(spec: Any) -> None:
    """Set the steers of this process, as for `named_steers`, if the environment does not.

    Raises:
        InputError: Other steers are set already, by this function or by the variable.
    """
    if not isinstance(spec, str):
        raise InputError(f"expected NAME=FOLDER entries as text, was: {spec!r}")
    before = os.environ.get(VARIABLE) or _SERVED.get("", spec)
    if before != spec:
        raise InputError(f"this process serves {before!r} already, and cannot serve {spec!r} too")
    _SERVED[""] = spec


_SERVED: dict[str, str] = {}


@lru_cache(maxsize=8)
def _read(spec: str) -> Mapping[str, Steer]:
    found: dict[str, Steer] = {}
    for entry in spec.split(",") if spec.strip() else []:
        name, equals, place = (part.strip() for part in entry.rpartition("="))
        if not place or (equals and not name):
            raise InputError(
                f"{VARIABLE} holds NAME=FOLDER entries separated by commas, was: {spec!r}"
            )
        steer = _open(place)
        name = name or steer.name
        if not name or not name.isprintable() or {"=", ","} & set(name):
            raise InputError(
                f"{VARIABLE}: requests cannot name the steer {name!r} of {place!r}, since names "
                "are written as NAME=STRENGTH,NAME=STRENGTH; give it another one as NAME=FOLDER"
            )
        parts = {name: steer}
        if steer.domain is not None:
            parts[f"{name}.domain"] = steer.domain
        if found.keys() & parts.keys():
            raise InputError(f"{VARIABLE} names {name!r} twice; give one of them another NAME=")
        found |= parts
    return found


def _open(place: str) -> Steer:
    if Path(place).is_dir():
        return read_steer(place)
    if place.count("/") != 1 or place.startswith("."):
        raise NotFoundError(
            f"{VARIABLE}: no steer at {place!r}; expected a folder that lmsteer wrote, or a Hub id"
        )
    return pull_steer(place)


def check_site(steers: Mapping[str, Steer]) -> None:
    """Raise UnsupportedError for a steer that an engine cannot serve."""
    for name, steer in steers.items():
        check_everywhere(steer, "an engine")
        if steer.site != "output":
            raise UnsupportedError(
                f"steer {name!r} acts on the input embeddings, which changes what the cache "
                "holds; engines serve steers of the output site. For this one write a model "
                "at fixed strengths with lmsteer export folder"
            )


def read_request(value: Any, steers: Mapping[str, Steer]) -> dict[str, float]:
    """The strengths that a request asks for; zeros are left out.

    A request comes from a stranger: messages show its text escaped and cut short.

    Args:
        value: ``{"sentiment": 2.5, "detox": 1}``, or the same on one line,
            ``"sentiment=2.5,detox=1"``; None and ``""`` ask for the base model. Words such as
            ``"+auto"`` and ``"80%"`` work for calibrated steers. A number alone is enough where
            only one steer is served.
        steers: The steers that may be named.

    Raises:
        InputError: Anything else; the message lists the names.
    """
    names = ", ".join(steers) or f"none: start the engine with {VARIABLE}=NAME=FOLDER"
    wanted = _pairs(value, steers, names)
    strengths = {}
    for name, given in wanted.items():
        if name not in steers:
            raise InputError(f"no steer {_shown(name)} is served here; served are {names}")
        if not _is_number_or_word(given):
            raise InputError(
                f"the strength of {name!r} must be a number or a word, was: {_shown(given)}"
            )
        try:
            strength = resolve_strength(steers[name], given)
        except OverflowError:  # an integer past every float
            strength = math.inf
        if not abs(strength) <= _LARGEST:
            raise InputError(
                f"the strength of {name!r} must be finite, {_LARGEST:g} at most, was: "
                f"{_shown(given)}"
            )
        if strength:
            strengths[name] = strength
    return strengths


def _pairs(value: Any, steers: Mapping[str, Steer], names: str) -> dict[str, Any]:
    whole = [name for name in steers if not name.endswith(".domain")]
    if value is None or value == "":
        return {}
    if isinstance(value, Mapping):
        return {str(name): given for name, given in value.items()}
    if isinstance(value, int | float) and not isinstance(value, bool):
        if len(whole) == 1:
            return {whole[0]: value}
        raise InputError(f"a strength alone needs one steer served; served are {names}")
    if isinstance(value, str):
        pairs: dict[str, Any] = {}
        for entry in value.split(","):
            name, equals, given = (part.strip() for part in entry.rpartition("="))
            if not equals or not name or not given:
                break
            if name in pairs:
                raise InputError(f"steer {_shown(name)} is given twice in {_shown(value)}")
            pairs[name] = given
        else:
            return pairs
    raise InputError(
        'steer must be NAME=STRENGTH pairs such as "sentiment=2.5,detox=1", or a mapping, was: '
        f"{_shown(value)}; served are {names}"
    )


def _is_number_or_word(given: Any) -> bool:
    if isinstance(given, str):
        return len(given) <= _SHOWN
    return isinstance(given, int | float) and not isinstance(given, bool)


def _shown(value: Any) -> str:
    """The text of a request as a message or a log may show it: escaped, and not too long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
