"""Untrusted text, made safe for places where some characters are commands: terminals, JSON, ...

Names, labels, prompts and what a model writes can contain anything. Each function here takes any
text and gives text that one kind of place shows as it is.
"""

from __future__ import annotations

import json
import re

from ..steer import CONTROLS

MOST_DRAWN = 60
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def visible(text: str, *, keep: str = "") -> str:
    r"""The text with each control character spelled out: ``\x1b`` for a terminal's escape.

    Args:
        text: Any text.
        keep: The control characters that stay as they are, such as line breaks.
    """
    return CONTROLS.sub(lambda found: found[0] if found[0] in keep else _spelled(found[0]), text)


def _spelled(control: str) -> str:
    code = ord(control)
    return _SHORT.get(control) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def json_text(value: object, *, indent: int | None = None, ascii_only: bool = False) -> str:
    """JSON whose only control characters are its own line breaks; letters of all scripts stay."""
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    return CONTROLS.sub(lambda c: c[0] if c[0] == "\n" else f"\\u{ord(c[0]):04x}", text)


def markdown(text: str) -> str:
    """Text for a line, a heading, a list or a table of Markdown, shown as it is, on one line."""
    line = visible(" ".join(text.split()))
    line = line.replace("&", "&amp;").replace("<", "&lt;")
    line = re.sub(r"[\\`*\[\]|~$]", r"\\\g<0>", line)
    # Between letters an underscore is only that. Numbers, dashes and the like begin lists, and
    # number signs end headings.
    line = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", line)
    line = re.sub(r"^[#+=>-]|(?<=\s)#+$", r"\\\g<0>", line)
    return re.sub(r"^(\d+)([.)])", r"\1\\\2", line)


def code(text: str) -> str:
    """Text as a span of code in Markdown, on one line; not for tables."""
    line = visible(" ".join(text.split())) or " "
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    room = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{room}{line}{room}{fence}"


def quoted(text: str) -> str:
    """Text between double quotes, as YAML, JSON and Python all read it."""
    # Python reads no pairs of surrogates, so that letters past U+FFFF stay as they are.
    return json_text(text)


def figure_text(text: str) -> str:
    """Text for a figure: nothing in it is read as a formula, and no legend leaves it out.

    The middle of a long text is left out: there is room for `MOST_DRAWN` characters.
    """
    line = visible(" ".join(text.split()))
    if len(line) > MOST_DRAWN:
        line = f"{line[: MOST_DRAWN - 16]}…{line[-15:]}"
    line = line.replace("$", r"\$")
    return f" {line}" if line.startswith("_") else line
