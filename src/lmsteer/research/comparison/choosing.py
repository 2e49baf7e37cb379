"""Which methods are compared: names from the command line, looked up in the registry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ...errors import InputError, LmsteerError, MissingExtraError
from ..methods import Method, load_methods, ready_steer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def method_names(asked: str) -> list[str]:
    """The names that an option of the command line stands for.

    Args:
        asked: ``"all"``; ``"paper"`` for the methods that the LM-Steer paper compares; or names
            with commas between them.
    """
    if asked in ("all", "paper"):
        methods = load_methods().values()
        return [method.name for method in methods if asked == "all" or method.in_paper]
    return [name.strip() for name in asked.split(",")]


def find_methods(names: Sequence[str], model: PreTrainedModel) -> list[type[Method] | Method]:
    """For each name, the class of a method to be fitted, or a steer that is ready.

    Raises:
        InputError: A name that stands for neither, or that is given twice.
        MissingExtraError: A method needs a package that is not installed.
    """
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"each method is compared once; named twice: {', '.join(twice)}")
    methods = load_methods()
    found: list[type[Method] | Method] = []
    for name in names:
        if name in methods:
            extra = methods[name].extra
            if extra is not None and find_spec(extra) is None:
                raise MissingExtraError(extra, extra, f"the method {name!r}")
            found.append(methods[name])
            continue
        try:
            found.append(ready_steer(name, model))
        except LmsteerError as error:
            raise InputError(
                f"no method {name!r}: expected one of {', '.join(methods)}, or a steer ({error})"
            ) from error
    return found
