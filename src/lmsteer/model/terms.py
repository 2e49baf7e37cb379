"""The one hook of each steered module, and the terms that attachments add there."""

from __future__ import annotations

import threading
from dataclasses import InitVar, dataclass, field
from weakref import WeakKeyDictionary, ref

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import InputError, MismatchError
from ..steer import Site, change
from .hooks import Hook, after, before
from .positions import Part, PositionTracker
from .stack import Stack


@dataclass(eq=False)
class Term:
    """What one attachment adds at one site, on one part of the positions.

    It holds weak references to modules, so a model that nobody uses any more is freed with it.
    """

    stack: Stack
    site: Site
    where: Part | Tensor
    tracker: PositionTracker
    expand: int
    modules: InitVar[list[nn.Module]]
    thread: int = field(default_factory=threading.get_ident)
    _casts: dict[tuple[torch.device, torch.dtype], Stack] = field(default_factory=dict)

    def __post_init__(self, modules: list[nn.Module]) -> None:
        self._modules: list[ref[nn.Module]] = []
        here = threading.get_ident()
        alive = {thread.ident for thread in threading.enumerate()} - {here}
        for module in modules:
            terms = _HOOKED[module].terms if module in _HOOKED else []
            if any(term.thread in alive for term in terms):
                raise InputError(
                    "another thread has steers attached to this model, and hooks are shared by "
                    "all threads: it would see these strengths too. Use lmsteer.generate, whose "
                    "calls wait for each other, or a copy of the model for each thread"
                )
            terms_of(module, self.site).append(self)
            self._modules.append(ref(module))

    def remove(self) -> None:
        """Stop acting; the last term of a module removes the hook."""
        for module in (found() for found in self._modules):
            if module is None:
                continue
            hooked = _HOOKED[module]
            hooked.terms.remove(self)
            if not hooked.terms:
                hooked.handle.remove()
                del _HOOKED[module]

    def delta(self, hidden: Float[Tensor, "batch *seq dim"]) -> Tensor | None:
        """The change of each row of `hidden`; None if no row changes."""
        length = hidden.shape[1] if hidden.ndim == 3 else 1
        mask = self.tracker.mask(self.where, self.site, length, hidden.shape[0])
        if mask is False:
            return None
        stack = self._cast(hidden)
        if stack.dense is not None:
            added = hidden @ stack.dense
        elif stack.rows is None:
            added = change(hidden, stack.P, stack.Q)
        else:
            rows = stack.rows.repeat_interleave(self.expand, dim=0)
            if rows.shape[0] != hidden.shape[0]:
                raise MismatchError(
                    f"strengths were given for {stack.rows.shape[0]} rows x expand="
                    f"{self.expand} = {rows.shape[0]}, but the batch has {hidden.shape[0]} rows; "
                    "give one value per row, and expand= for beams or num_return_sequences"
                )
            if hidden.ndim == 3:
                rows = rows[:, None]
            added = change(hidden, stack.P, stack.Q, rows)
        return added if mask is True else added * mask.to(added)

    def _cast(self, hidden: Tensor) -> Stack:
        key = (hidden.device, hidden.dtype)
        if key not in self._casts:
            s = self.stack
            rows = None if s.rows is None else s.rows.to(*key)
            dense = None if s.dense is None else s.dense.to(*key)
            self._casts[key] = Stack(s.P.to(*key), s.Q.to(*key), rows, dense)
        return self._casts[key]


@dataclass(frozen=True, eq=False)
class _Hooked:
    handle: Hook
    terms: list[Term]


# One hook per module, for any number of attachments: all change the same base row, and are added.
_HOOKED: WeakKeyDictionary[nn.Module, _Hooked] = WeakKeyDictionary()


def terms_of(module: nn.Module, site: Site) -> list[Term]:
    """The list of terms that act on a module; the first call puts the hook there."""
    if module not in _HOOKED:
        terms: list[Term] = []

        def steered(hidden: Tensor) -> Tensor:
            changes = [term.delta(hidden) for term in terms]
            for added in changes:
                hidden = hidden if added is None else hidden + added
            if hidden.dtype == torch.float16 and not bool(torch.isfinite(hidden).all()):
                raise InputError(
                    "this strength takes the hidden states past what float16 can hold (65,504); "
                    "use a smaller strength, or load the model in bfloat16 or float32"
                )
            return hidden

        if site == "output":
            handle = before(module, lambda module, args: (steered(args[0]), *args[1:]))
        else:
            handle = after(module, lambda module, args, output: steered(output))
        _HOOKED[module] = _Hooked(handle, terms)
    return _HOOKED[module].terms
