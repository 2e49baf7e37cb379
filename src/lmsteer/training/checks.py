"""Checks before training begins: labels that teach nothing, a start that does not fit."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..errors import InputError
from ..model import check_fit
from ..steer import Reach, Site, Steer
from ..text import Example


def check_labels(examples: Sequence[Example], names: Sequence[str]) -> None:
    """Raise InputError unless every text has a label for each name, and labels differ."""
    if not examples:
        raise InputError("no examples given; a steer is learned from at least two labelled texts")
    for example in examples:
        if len(example.labels) != len(names):
            raise InputError(
                f"expected {len(names)} labels per text, one for each of {', '.join(names)}; "
                f"got {len(example.labels)} for {example.text[:40]!r}"
            )
    for number, name in enumerate(names):
        labels = {e.labels[number] for e in examples}
        if len(labels) == 1:
            which = f" for {name!r}" if len(names) > 1 else ""
            raise InputError(
                f"all {len(examples)} examples have the label {labels.pop():g}{which}: a steer "
                "learns what separates labels, so give texts of both kinds (say +1 and -1)"
            )


def check_start(
    model: nn.Module, start: Steer | None, site: Site | str, where: Reach | str, styles: int
) -> None:
    """Raise InputError unless training can begin with `start`; None means the base model."""
    if start is None:
        return
    check_fit(model, start)
    if start.site != site or styles != 1:
        raise InputError(
            f"start= takes one steer at the {site} site, for one style; the given steer is "
            f"at the {start.site} site, and {styles} styles are to be learned"
        )
    if start.where != where:
        raise InputError(
            f"start= takes a steer that acts on what the new one is to act on: {start.name!r} was "
            f"trained with where={start.where!r}, here where={where!r} was asked for"
        )
