"""What can go wrong, one tree.

    LmsteerError
    ├── InputError        (also ValueError)   a text, option or argument of the caller
    ├── MismatchError     (also ValueError)   things that do not belong together
    ├── ArtefactError     (also ValueError)   a file or folder that cannot be trusted
    ├── NotFoundError     (also LookupError)  no steer, model or file of that name
    ├── UnsupportedError                      a model this method cannot act on
    └── MissingExtraError (also ImportError)  an optional dependency is absent

    LmsteerWarning (also UserWarning)         work that goes on, but not as well as was asked for

Every message says what was expected, what was got and what to do next.
"""

from __future__ import annotations


class LmsteerError(Exception):
    """The root of all errors that lmsteer raises on purpose."""


class LmsteerWarning(UserWarning):
    """The root of all warnings of lmsteer; the command line prints each on one line."""


class InputError(LmsteerError, ValueError):
    """Text, an option or an argument that cannot be used as given."""


class MismatchError(LmsteerError, ValueError):
    """Things that do not belong together: a steer and a model, rows and strengths."""


class ArtefactError(LmsteerError, ValueError):
    """A file or folder on disk that is incomplete, damaged or not ours."""


class NotFoundError(LmsteerError, LookupError):
    """There is no steer, model or file of that name."""


class UnsupportedError(LmsteerError):
    """A model whose structure this method cannot act on."""


class MissingExtraError(LmsteerError, ImportError):
    """An optional dependency is absent; the message names the extra to install."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed. "
            f"Install it with: pip install 'lmsteer[{extra}]'"
        )
