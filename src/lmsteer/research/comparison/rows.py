"""What was measured of a method, saved in a file, so that an interrupted comparison goes on."""

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


@dataclass
class MethodRow:
    """What was measured of one method.

    Args:
        name: The method's name, or the steer's.
        source: The method's paper, and how this implementation differs from it.
        frozen: Whether the weights of the base model's trunk stay as they are.
        parameters: Numbers learned for one direction.
        prompts: How many prompts the method continued.
        seconds: The time of the fit.
        mebibytes: Memory at the peak of the fit, beyond what was in use before; None where it is
            not known.
        decode: The time of writing at the middle strength, relative to the base model.
        base: Figures of the base model on the same prompts.
        figures: For each signed strength, as text: figures of what was written (see
            `evaluation.measure`) and of given text (``neutral``, ``acceptability``).
        emphasised: Whether the method's curve in the figure is a thick one.
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
    emphasised: bool = False


def row_file(name: str, method: type[Method] | Method) -> str:
    """The name of a row's file: a method's name, or a ready steer's with a digest of its content.

    Steers of one name in two places, and a steer that was trained anew, thus have their own rows.
    """
    if not isinstance(method, Method):
        return f"{file_name(method.name)}.json"
    return f"steer-{file_name(Path(name).name)}-{method.digest}.json"


def read_row(path: Path, asked: dict[str, Any]) -> MethodRow | None:
    """The row that an earlier run saved; None where there is none.

    Raises:
        InputError: The row was measured with other settings.
    """
    if not path.exists():
        return None
    saved = json.loads(path.read_text(encoding="utf-8"))
    if saved["asked"] != asked:
        raise InputError(
            f"{path} was measured with other examples, prompts or settings; choose another "
            "folder, or delete it"
        )
    row = saved["row"]
    figures = {strength: _estimates(part) for strength, part in row["figures"].items()}
    return MethodRow(**{**row, "base": _estimates(row["base"]), "figures": figures})


def keep_row(path: Path, asked: dict[str, Any], row: MethodRow) -> None:
    """Save a row; an interruption never leaves half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, json.dumps({"asked": asked, "row": asdict(row)}))


def _estimates(plain: dict[str, Any]) -> dict[str, Estimate]:
    return {key: Estimate(**value) for key, value in plain.items()}
