"""What was measured of a method, and its file, so that an interrupted comparison goes on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...metrics import Estimate
from ...steer import file_name
from ...storage import write_file
from ..methods import Method
from .methods import Steered


@dataclass
class Row:
    """What was measured of one method.

    Args:
        name: Of the method.
        source: Its paper, and how this differs.
        frozen: Whether the base model's trunk is left alone.
        parameters: Numbers learned for one direction.
        prompts: How many prompts it continued.
        seconds: To fit.
        mebibytes: At the peak of the fit beyond what was in use; None where not known.
        decode: Time to write relative to the base model, at the middle strength.
        base: Figures of the base model on the same prompts.
        figures: By signed strength, as text: figures of what was written (see
            `evaluation.measure`) and of given text (``neutral``, ``acceptability``).
    """

    name: str
    source: str
    frozen: bool
    parameters: int
    prompts: int
    seconds: float = 0.0
    mebibytes: float | None = None
    decode: float = 1.0
    base: dict[str, Estimate] = field(default_factory=dict)
    figures: dict[str, dict[str, Estimate]] = field(default_factory=dict)


def row_file(name: str, method: type[Method] | Steered) -> str:
    """The name of a row's file: a method's own, a steer's with what it holds.

    Steers of one name in two places, and a steer that was trained anew, have rows of their own.
    """
    if not isinstance(method, Steered):
        return f"{file_name(method.name)}.json"
    steer = method.steer
    return f"steer-{file_name(Path(name).name)}-{steer.site}-{steer.digest[:12]}.json"


def read_row(path: Path, asked: dict[str, Any]) -> Row | None:
    """A row of an earlier run, if it is there.

    Raises:
        InputError: It was measured otherwise.
    """
    if not path.exists():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    if found["asked"] != asked:
        raise InputError(
            f"{path} was measured with other examples, prompts or settings; choose another "
            "folder, or delete it"
        )
    told = found["row"]
    figures = {strength: _estimates(part) for strength, part in told["figures"].items()}
    return Row(**{**told, "base": _estimates(told["base"]), "figures": figures})


def keep_row(path: Path, asked: dict[str, Any], row: Row) -> None:
    """Write a row, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, json.dumps({"asked": asked, "row": asdict(row)}))


def _estimates(plain: dict[str, Any]) -> dict[str, Estimate]:
    return {key: Estimate(**value) for key, value in plain.items()}
