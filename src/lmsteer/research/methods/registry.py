"""The registry: every file of this folder is looked through for methods."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from .method import Method

if TYPE_CHECKING:
    from collections.abc import Iterator


def load_methods() -> dict[str, type[Method]]:
    """All methods by name, in the order of tables.

    A method is a subclass of `Method` that states a `name`, in any file of this folder. There is
    no list to add it to.

    Raises:
        TypeError: Two methods have the same name.
    """
    found: dict[str, type[Method]] = {}
    for method in sorted(_classes(), key=lambda method: (method.order, method.name)):
        if method.name in found:
            raise TypeError(
                f"{found[method.name].__module__} and {method.__module__} both hold a method "
                f"called {method.name!r}; rename one"
            )
        found[method.name] = method
    return found


def _classes() -> Iterator[type[Method]]:
    package = importlib.import_module(__package__)
    for file in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{__package__}.{file.name}")
        for value in vars(module).values():
            is_method = isinstance(value, type) and issubclass(value, Method)
            # A class that is imported belongs to another file; one without a name is shared.
            if is_method and value.__module__ == module.__name__ and "name" in vars(value):
                yield value
