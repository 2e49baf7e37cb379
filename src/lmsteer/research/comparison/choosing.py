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


def method_names(asked: Sequence[str]) -> list[str]:
    """The names of methods and steers that the words of a command line stand for.

    Args:
        asked: Names; ``"all"`` stands for every method, and ``"paper"`` for those that the
            LM-Steer paper compares. A method that is also named on its own is taken there.
    """
    methods = load_methods().values()
    several = {
        "all": [method.name for method in methods],
        "paper": [method.name for method in methods if method.in_paper],
    }
    own = [name for name in asked if name not in several]
    sets = [name for word in asked for name in several.get(word, [])]
    return [*dict.fromkeys(name for name in sets if name not in own), *own]


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
