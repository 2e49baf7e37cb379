"""What a steer's record says of its making.

A record is for people: `read_provenance` reads what the card and the command line show of it, and
nothing else in the package looks inside. The other functions pass a record on to a steer that is
made from the recorded one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Data:
    """The counts of the training texts.

    Args:
        texts: The number of texts.
        positive: The number of texts with a label above 0.
        negative: The number of texts with a label below 0.
        neutral: The number of texts with the label 0.
        tokens: The number of target tokens.
        truncated: The number of texts that were cut to the model's context.
        skipped: The number of texts without a token to learn from.
    """

    texts: int
    positive: int
    negative: int
    neutral: int
    tokens: int
    truncated: int = 0
    skipped: int = 0


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """How well held-out texts were predicted.

    Args:
        nll_base: The NLL of the base model, in nats per token.
        nll: The NLL of the steered model, in nats per token.
        tokens: The number of tokens.
    """

    nll_base: float
    nll: float
    tokens: int


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A text that the steered model wrote.

    Args:
        strength: The signed strength of the steer.
        text: The text, with its prompt.
    """

    strength: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What a record says, as far as it is shown.

    Args:
        data: The counts of the training texts, or None where the record has none.
        held_out: The figures on held-out texts, or None where nothing was held out.
        solver: The name of the solver; "" where the record has none.
        seconds: How long the training took.
        balance: Whether both signs of the label had the same total weight.
        source: Where the texts are from, or None where the record does not say.
        samples: Texts for the model card.
        transfer: How the steer was carried from another model, or None where it was not.
        model_copy: The GGUF file that the model was unpacked from: its ``file``, ``sha256`` and
            ``packing``; None where it was the original.
    """

    data: Data | None
    held_out: HeldOut | None
    solver: str
    seconds: float
    balance: bool
    source: str | None
    samples: tuple[Sample, ...]
    transfer: Mapping[str, Any] | None
    model_copy: Mapping[str, str] | None


def read_provenance(record: Mapping[str, Any]) -> Provenance:
    """What the record of a steer says, as far as it is shown."""
    keys = ("data", "held_out", "source", "model_copy")
    data, held_out, source, copy = (record.get(key) for key in keys)
    return Provenance(
        data=read_value(Data, data) if data else None,
        held_out=read_value(HeldOut, held_out) if held_out else None,
        solver=str(record.get("solver", "")),
        seconds=record.get("seconds", 0.0),
        balance=record.get("balance", False),
        source=None if source is None else str(source),
        samples=tuple(read_value(Sample, row) for row in record.get("samples", ())),
        transfer=record.get("transfer"),
        model_copy=copy if isinstance(copy, Mapping) else None,
    )


def carried_over(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record for a steer whose map is made from this one's: its samples are not the new one's.

    It is a copy, so that two steers share no dictionary.
    """
    return {key: value for key, value in record.items() if key != "samples"}


def lineage(record: Mapping[str, Any]) -> dict[str, Any]:
    """What of a record still says how a steer was learned, after it was carried to a new model."""
    kept = ("solver", "data", "held_out", "rank", "source", "transfer", "model_copy")
    return {key: value for key, value in record.items() if key in kept}


def scaled(record: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """The record of a map that was multiplied by `factor`; several factors are multiplied."""
    return carried_over(record) | {"scaled_by": record.get("scaled_by", 1.0) * factor}


def read_value(kind: type[T], facts: Mapping[str, Any]) -> T:
    """A dataclass from those of the facts that are its fields; what else they say is left out."""
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: facts[name] for name in names if name in facts})
