"""Names: what one may hold, how things of one name are told apart, which file a name is kept in.

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
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    pass

DOMAIN = ".domain"
MOST_BYTES = 120
"""Of a file name without its ending: file systems take 255 in all."""
_MOST = MOST_BYTES - 8  # room for the number of `unique_file_names`
# Letters, signs and selectors of Unicode that show nothing, besides its format characters.
_BLANK = set("\u115f\u1160\u2800\u3164\uffa0") | {chr(n) for n in range(0xFE00, 0xFE10)}
_NOT_IN_FILES = re.compile(r'[/\\:*?"<>|]')
# What Windows takes for a device, whatever the ending.
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\.|$)", re.I)


def check_name(name: Any, what: str = "the name of a steer") -> str:
    """The same name, if it is one that can be shown: text with something to see in it.

    Raises:
        InputError: Not text, nothing to see, or a control character (a line break, a terminal's
            escape, a mark that turns the direction of writing).
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
    """The names, each different from all others.

    One that no other looks like stays as it is. Those that look the same are numbered in order,
    all of them: ``mood#1``, ``mood#2``; a number that makes another's name is left out.

    Args:
        names: In order.
        taken: Names that none of these may have.
        key: What must differ.
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
    """A name for a file or folder, of any text: safe to join to a folder, on any system.

    Letters of any script, digits, spaces and most signs stay. What separates folders, control
    characters and what Windows refuses become ``_``; dots in front and dots and spaces at the end
    go; a long text is cut, with a few digits of its checksum, so that long texts stay apart. Never
    empty, never longer than `MOST_BYTES` in UTF-8, and the name of a name is itself.
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
    """File names of several texts, each different, where case does not count either.

    Args:
        texts: Those whose names would be one are numbered as in `told_apart`.
        taken: File names that none of these may have.
    """
    return told_apart([file_name(text) for text in texts], taken=taken, key=_kept)


def _kept(name: str) -> str:
    """What a file system that does not tell capital letters from small ones goes by."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _trimmed(name: str) -> str:
    return re.sub(r"^[\s.]+|[\s.]+$", "", name)


# C0 and C1, the separators of lines and paragraphs, the marks that turn the direction of writing,
# and halves of surrogate pairs, which no file can hold.
CONTROLS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
