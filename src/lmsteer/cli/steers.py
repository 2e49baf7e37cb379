"""Steers as commands take them: ``NAME`` or ``NAME=STRENGTHS``, read and looked up here alone.

``STRENGTHS`` are numbers or words (``+auto``, ``80%``, ``kl:0.5``) with commas between. ``NAME``
alone means strength 1, unless the help of the command names other strengths. What exists as a
folder is always a name, so that a folder may have ``=`` in its path.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ..errors import InputError
from ..steer import DOMAIN, Steer, resolve_strength
from ..storage import load_steer
from .display import err, escape

if TYPE_CHECKING:
    from torch import nn

HOW = (
    "a steer is given as NAME or NAME=STRENGTHS, such as sentiment=3, sentiment=-2,0,2, "
    "sentiment=+auto, sentiment=80% or sentiment=kl:0.5"
)


def parse(spec: str) -> tuple[str, list[str]]:
    """The name in ``NAME`` or ``NAME=STRENGTHS``, and the strengths; none for a name alone.

    Raises:
        InputError: No name, or nothing where a strength was expected.
    """
    if "=" not in spec or os.path.isdir(spec) or os.path.isdir(spec.removesuffix(DOMAIN)):
        name, strengths = spec, []
    else:
        name, _, values = spec.rpartition("=")
        strengths = [value.strip() for value in values.split(",")]
    if not name or not all(strengths):
        raise InputError(f"{HOW}; was: {spec!r}")
    return name, strengths


def read_name(spec: str, model: nn.Module | str) -> Steer:
    """The steer of an argument that takes no strength."""
    return read_names([spec], model)[0]


def read_names(specs: Sequence[str], model: nn.Module | str) -> list[Steer]:
    """The steers of arguments that take no strength.

    Raises:
        InputError: A strength is given, or one steer twice.
    """
    names = []
    for spec in specs:
        name, strengths = parse(spec)
        if strengths:
            raise InputError(f"this command takes names of steers without strengths; was: {spec!r}")
        names.append(name)
    steers = [load_steer(name, model) for name in names]
    check_different(names, steers)
    return steers


def read_mix(
    specs: Sequence[str], model: nn.Module | str, *, alone: Sequence[float] = (1.0,)
) -> list[tuple[Steer, list[float]]]:
    """Each argument as a steer and its strengths.

    Args:
        specs: ``NAME`` or ``NAME=STRENGTHS``.
        model: A model that is open, which the steers must fit, or the name of one; see
            `lmsteer.load_steer`.
        alone: The strengths of a name that is given alone.

    Raises:
        InputError: A strength that is neither a number nor a known word, or one steer given twice.
    """
    parsed = [parse(spec) for spec in specs]
    steers = [load_steer(name, model) for name, _ in parsed]
    check_different([name for name, _ in parsed], steers)
    return [
        (steer, [resolve_strength(steer, value) for value in values or alone])
        for steer, (_, values) in zip(steers, parsed, strict=True)
    ]


def read_fixed(
    specs: Sequence[str], model: nn.Module | str, *, alone: float = 1.0
) -> dict[Steer, float]:
    """As `read_mix`, for commands that take one strength per steer.

    Raises:
        InputError: Several strengths for one steer.
    """
    for spec in specs:
        if len(parse(spec)[1]) > 1:
            raise InputError(f"this command takes one strength per steer; got several in {spec!r}")
    return {steer: values[0] for steer, values in read_mix(specs, model, alone=[alone])}


def crossed(mix: Sequence[tuple[Steer, list[float]]]) -> list[dict[Steer, float]]:
    """Every combination of the strengths given, one mapping each."""
    mappings: list[dict[Steer, float]] = [{}]
    for steer, strengths in mix:
        mappings = [{**mapping, steer: s} for mapping in mappings for s in strengths]
    return mappings


def check_different(names: Sequence[str], steers: Sequence[Steer]) -> None:
    """Raise InputError where two of the steers are one, under one name or under two."""
    if len(steers) < 2:
        return
    found: dict[tuple[str, str], str] = {}
    for name, steer in zip(names, steers, strict=True):
        key = (steer.site, steer.digest)
        if (before := found.get(key)) is not None:
            told = f"{name!r} is" if name == before else f"{before!r} and {name!r} are one steer,"
            raise InputError(
                f"{told} given twice: give each steer once, with several strengths between commas "
                "where they are to be compared (NAME=1,2)"
            )
        found[key] = name


def tell_prompts(steers: Iterable[Steer]) -> None:
    """Say on stderr which of these steers act on the prompt alone, because they learned it so."""
    for steer in dict.fromkeys(steers):
        if steer.where == "prompt":
            err.print(
                f"{escape(steer.name)} steers the prompt alone, as it was trained to",
                soft_wrap=True,
            )
