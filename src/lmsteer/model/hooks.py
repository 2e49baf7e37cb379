"""Hooks that compiled code notices.

torch.compile assumes that a module without hooks stays without them: code that was compiled before
a hook came does not run it, and nothing says so. What compiled code does check, before it runs, is
whether a module has a `forward` of its own. So a module is given one together with its first hook
(the same method that its class has), and it loses it with the last one. Code that was compiled
without the hook is then not used until the hook is gone. No setting of the compiler is changed, and
nothing that was compiled for other models is thrown away.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import MethodType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

from torch import nn

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle


class Hook:
    """A hook on a module, until it is removed."""

    def __init__(self, module: nn.Module, handle: RemovableHandle) -> None:
        self._module, self._handle = ref(module), handle
        _notice(module)

    def remove(self) -> None:
        """Take the hook off the module."""
        self._handle.remove()
        module = self._module()
        if module is not None:
            _forget(module)


def before(module: nn.Module, told: Callable[..., Any], **options: Any) -> Hook:
    """A forward pre-hook; options as for `nn.Module.register_forward_pre_hook`."""
    return Hook(module, module.register_forward_pre_hook(told, **options))


def after(module: nn.Module, told: Callable[..., Any], **options: Any) -> Hook:
    """A forward hook; options as for `nn.Module.register_forward_hook`."""
    return Hook(module, module.register_forward_hook(told, **options))


_COUNTS: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
"""The number of our hooks on each module."""


def _notice(module: nn.Module) -> None:
    _COUNTS[module] = _COUNTS.get(module, 0) + 1
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and importing it takes a second
        return
    prior = vars(module).get("forward")
    if prior is None:
        vars(module)["forward"] = module.forward
    elif not _is_given(module, prior):
        vars(module)["forward"] = _another(prior)


def _forget(module: nn.Module) -> None:
    _COUNTS[module] -= 1
    if _COUNTS[module]:
        return
    del _COUNTS[module]
    found: Any = vars(module).get("forward")
    if _is_given(module, found):
        del vars(module)["forward"]
        if hasattr(found, "lmsteer_prior"):
            vars(module)["forward"] = found.lmsteer_prior


def _is_given(module: nn.Module, forward: Any) -> bool:
    """Whether this file gave the module this forward of its own, and nobody else did."""
    if hasattr(forward, "lmsteer_prior"):
        return True
    own = isinstance(forward, MethodType) and forward.__self__ is module
    return own and forward.__func__ is type(module).forward


def _another(forward: Callable[..., Any]) -> Callable[..., Any]:
    """The same function as another object, for a module that already has its own forward."""

    @functools.wraps(forward)
    def same(*args: Any, **kwargs: Any) -> Any:
        return forward(*args, **kwargs)

    same.lmsteer_prior = forward  # type: ignore[attr-defined]
    return same
