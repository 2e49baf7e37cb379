"""``steer.json``: read, brought to today's schema, and checked.

Its form is declared in ``steer.schema.json`` beside this module. Files come from others, so nothing
in them is trusted: whatever does not have this form is refused in a sentence.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Mapping
from importlib import resources
from typing import Any, NoReturn

from ..errors import ArtefactError
from ..steer import Calibration, Cost, Effect, Rate, Steer, read_value

SCHEMA = 3
"""In 1 and 2 the calibration and the effect lay inside the record; 1 had no checksum. All three are
read."""
FACTS = "steer.json"
MOST_FACTS = 64 * 2**20
"""The size of the largest ``steer.json`` that is read, in bytes."""


def read_facts(text: bytes) -> dict[str, Any]:
    """What ``steer.json`` says, in the form of today's schema.

    Raises:
        ArtefactError: Not JSON, not written by lmsteer, of a newer schema, or of another form.
    """
    try:
        facts = parse(text.decode("utf-8"))
        json.dumps(facts, ensure_ascii=False).encode("utf-8")  # half characters cannot be written
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{FACTS} is not JSON ({error}); copy it again") from error
    if not isinstance(facts, dict) or facts.get("format") != "lmsteer":
        raise ArtefactError(f"{FACTS} was not written by lmsteer")
    if type(facts.get("schema")) is not int or not 1 <= facts["schema"] <= SCHEMA:
        raise ArtefactError(
            f"{FACTS} has schema {facts.get('schema')!r}, this version reads 1 to {SCHEMA}; "
            "upgrade lmsteer"
        )
    facts = _upgraded(facts)
    fault = fault_of(facts)
    if fault is not None:
        raise ArtefactError(f"{FACTS}: {fault}; copy it again")
    return facts


def parse(text: str) -> Any:
    """JSON whose numbers can be used; what cannot be read so must not be written either.

    Raises:
        ValueError: Not JSON, a number that is not finite, an integer of more than 15 digits.
    """
    return json.loads(text, parse_constant=_not_a_number, parse_float=_number, parse_int=_integer)


def fault_of(facts: Mapping[str, Any]) -> str | None:
    """What is wrong with the form, in a sentence; None if nothing is."""
    from jsonschema.exceptions import best_match

    error = best_match(_validator().iter_errors(facts))
    if error is not None:
        where = ".".join(map(str, error.absolute_path)) or "the whole"
        return f"{where}: {error.message[:200]}"
    if facts["schema"] > 1 and "sha256" not in facts:
        return "'sha256' is a required property"
    return None


def measured(steer: Steer) -> dict[str, Any]:
    """The calibration and the effect of a steer as ``steer.json`` holds them."""
    parts = {"calibration": steer.calibration, "effect": steer.effect}
    return {key: part and dataclasses.asdict(part) for key, part in parts.items()}


def measurements(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments `calibration` and `effect` of `Steer`, from what `measured` wrote.

    Raises:
        InputError: A calibration without a row of strength 0.
    """
    table, effect = facts.get("calibration"), facts.get("effect")
    if table:
        rows = tuple(read_value(Cost, row) for row in table["rows"])
        table = read_value(Calibration, {**table, "rows": rows, "safe": tuple(table["safe"])})
    if effect:
        judged = tuple(read_value(Rate, row) for row in effect["rows"])
        effect = read_value(Effect, {**effect, "rows": judged})
    return {"calibration": table, "effect": effect}


def _upgraded(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts of an older schema in the form of today's; their schema number is left as it is."""
    if facts["schema"] >= 3:
        return facts
    record = facts.get("record")
    if facts["schema"] == 1 and "where" not in facts and isinstance(record, dict):
        facts = {"where": record.get("where", "all"), **facts}
    facts = _lifted(facts)
    if isinstance(facts.get("domain"), dict):
        facts["domain"] = _lifted(facts["domain"])
    return facts


def _lifted(part: dict[str, Any]) -> dict[str, Any]:
    """A steer's facts, or its domain part's, with what was measured beside the record."""
    record = part.get("record")
    if not isinstance(record, dict):
        return dict(part)
    keys = ("calibration", "effect")
    inner = {key: value for key, value in record.items() if key not in keys}
    return {**part, "record": inner, **{key: record[key] for key in keys if key in record}}


def _number(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _not_a_number(text)


def _integer(text: str) -> int:
    return int(text) if len(text.removeprefix("-")) < 16 else _not_a_number(text)


def _not_a_number(text: str) -> NoReturn:
    raise ValueError(f"{text[:20]} is not a number that can be used")


@functools.cache
def _validator() -> Any:
    from jsonschema import Draft202012Validator

    text = (resources.files(__package__) / "steer.schema.json").read_text(encoding="utf-8")
    return Draft202012Validator(json.loads(text))
