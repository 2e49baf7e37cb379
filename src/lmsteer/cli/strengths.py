"""`--steer NAME=STRENGTH`, read into steers and numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ..errors import InputError
from ..steer import Steer, resolve_strength
from ..storage import load_steer, read_steer
from .display import err, escape

if TYPE_CHECKING:
    from torch import nn


def read_mix(specs: Sequence[str], model: nn.Module | None) -> list[tuple[Steer, list[float]]]:
    """Each ``NAME=STRENGTH`` or ``NAME=S1,S2,...`` as a steer and its strengths.

    Without a model the names are folders.

    Raises:
        InputError: No ``=``, a strength that is neither a number nor a known word, or one steer
            given twice.
    """
    mix: list[tuple[Steer, list[float]]] = []
    names: list[str] = []
    for spec in specs:
        name, equals, values = spec.rpartition("=")
        if not equals or not name or not values:
            raise InputError(
                "a steer is given as NAME=STRENGTH, such as sentiment=3, sentiment=-2,0,2, "
                f"sentiment=+auto, sentiment=80% or sentiment=kl:0.5; was: {spec!r}"
            )
        steer = read_steer(name) if model is None else load_steer(name, model)
        mix.append((steer, [resolve_strength(steer, value) for value in values.split(",")]))
        names.append(name)
    check_different(names, [steer for steer, _ in mix])
    return mix


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


def crossed(mix: Sequence[tuple[Steer, list[float]]]) -> list[dict[Steer, float]]:
    """Every combination of the strengths given, one mapping each."""
    mappings: list[dict[Steer, float]] = [{}]
    for steer, strengths in mix:
        mappings = [{**mapping, steer: s} for mapping in mappings for s in strengths]
    return mappings


def read_fixed(specs: Sequence[str], model: nn.Module | None) -> dict[Steer, float]:
    """As `read_mix`, for what takes one strength a steer.

    Raises:
        InputError: Several strengths for one steer.
    """
    mix = read_mix(specs, model)
    for spec, (_, values) in zip(specs, mix, strict=True):
        if len(values) != 1:
            raise InputError(f"one strength a steer is taken here; got several in {spec!r}")
    return {steer: values[0] for steer, values in mix}
