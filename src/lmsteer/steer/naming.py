"""Names: which ones are allowed, how equal ones are told apart, and which file name each gets.

A steer is itself, not its name: whatever is keyed by a steer is keyed by the object, or by its
`digest` on disk. Names are for people, and many come from strangers (a folder, the Hub, a table's
columns), so they never become a path as they are.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError

DOMAIN = ".domain"
MOST_BYTES = 120
"""The longest file name without its ending, in bytes: file systems take 255 in all."""
_MOST = MOST_BYTES - 8  # room for the number of `unique_file_names`
# Letters, signs and selectors of Unicode that show nothing, besides its format characters.
_BLANK = set("\u115f\u1160\u2800\u3164\uffa0") | {chr(n) for n in range(0xFE00, 0xFE10)}
_NOT_IN_FILES = re.compile(r'[/\\:*?"<>|]')
# What Windows takes for a device, whatever the ending.
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\.|$)", re.I)


def check_name(name: Any, what: str = "the name of a steer") -> str:
    """Return the name unchanged if it can be shown: it is text with something visible in it.

    Args:
        name: The name to check.
        what: What the name is of, for the message.

    Raises:
        InputError: The name is not text, shows nothing, or holds a control character (a line
            break, a terminal's escape, a mark that turns the direction of writing).
    """
    if not isinstance(name, str):
        raise InputError(f"{what} must be text, was: {name!r}")
    if not seen(name):
        raise InputError(f"{what} must not be empty, was: {name!r}")
    if found := CONTROLS.search(name):
        raise InputError(
            f"{what} must not hold control characters such as line breaks and terminal escapes; "
            f"found {found[0]!a} in {name!a}. Choose another name"
        )
    return name


def name_of_folder(path: str | os.PathLike[str]) -> str:
    """What to call a steer that is kept in this folder: the folder's own name."""
    name = CONTROLS.sub("_", Path(os.path.abspath(path)).name)
    return name if seen(name) else "steer"


def seen(name: str) -> str:
    """What people see of a name: two names that look the same give the same."""
    shown = (
        letter
        for letter in unicodedata.normalize("NFC", name)
        if unicodedata.category(letter) != "Cf" and letter not in _BLANK
    )
    return " ".join("".join(shown).split())


def told_apart(
    names: Sequence[str],
    *,
    taken: Collection[str] = (),
    key: Callable[[str], str] = seen,
) -> list[str]:
    """The names, with numbers where they are needed to tell one from another.

    A name that looks like no other stays as it is. Names that look the same are all numbered in
    order: ``mood#1``, ``mood#2``. A number that would give the name of another is skipped.

    Args:
        names: The names, in order.
        taken: Names that none of the results may have.
        key: What of two names must differ: by default what people see of them.
    """
    keys = [key(name) for name in names]
    counts = Counter(keys)
    used = {key(name) for name in taken}
    alone = {found for found, count in counts.items() if count == 1} - used
    used |= alone
    last: Counter[str] = Counter()
    different = []
    for name, found in zip(names, keys, strict=True):
        label = name
        while found not in alone and (label == name or key(label) in used):
            last[found] += 1
            label = f"{name}#{last[found]}"
        used.add(key(label))
        different.append(label)
    return different


def file_name(text: str) -> str:
    """A name for a file or folder, made of any text: safe to join to a folder, on any system.

    Letters of any script, digits, spaces and most signs stay. Separators of folders, control
    characters and what Windows refuses become ``_``. Dots at the start, and dots and spaces at the
    end, are removed. A long text is cut and ends in a few digits of its checksum, so that different
    long texts have different names. The result is never empty and never longer than `MOST_BYTES`
    in UTF-8, and a result given again comes back unchanged.
    """
    text = unicodedata.normalize("NFC", text)
    name = _trimmed(_NOT_IN_FILES.sub("_", CONTROLS.sub("_", text)))
    if _DEVICES.match(name) or not name:
        name = f"_{name}"
    if len(name.encode()) > _MOST:
        mark = "-" + hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
        cut = name.encode()[: _MOST - len(mark)].decode(errors="ignore")
        name = _trimmed(cut) + mark
    return name


def unique_file_names(texts: Sequence[str], *, taken: Collection[str] = ()) -> list[str]:
    """A file name for each of several texts, all different even where case does not count.

    Args:
        texts: The texts; where two would have the same file name, they are numbered as in
            `told_apart`.
        taken: File names that none of the results may have.
    """
    return told_apart([file_name(text) for text in texts], taken=taken, key=_kept)


def _kept(name: str) -> str:
    """What a file system compares that does not tell capital letters from small ones."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _trimmed(name: str) -> str:
    return re.sub(r"^[\s.]+|[\s.]+$", "", name)


# C0 and C1, the separators of lines and paragraphs, the marks that turn the direction of writing,
# and halves of surrogate pairs, which no file can hold.
CONTROLS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
