"""`attach`: put steers on a model and take them off again.

Output site: a forward pre-hook on the head, so that the model's own head (bias, scale,
soft-cap) runs on ``h + sum_i eps_i (h @ P_i) @ Q_i.T``. Input site: a forward hook on every
embedding module that holds the input table. All attachments of one site add up on the base
row; they never compound.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import InputError, UnsupportedError
from ..head import head_of, input_tables
from ..steer import Site, Steer
from ..strengths import resolve_strength, warn_past_range
from .fit import check_fit
from .stack import Progress, Where, stack
from .terms import Term, look_for_hooks

if TYPE_CHECKING:
    from typing import Self

    from torch.utils.hooks import RemovableHandle

Strength = float | str | Float[Tensor, " rows"]


def attach(
    model: nn.Module,
    strengths: Mapping[Steer, Strength],
    *,
    where: Where = "all",
    expand: int = 1,
    check: bool = True,
) -> Attachment:
    """Steer a model until the returned handle is closed.

    Use it as a context manager, or keep the handle and call `Attachment.detach`. Nested
    attachments add up. With no strength, or all of them 0, the model is bitwise its own.

    Args:
        model: Any causal (or encoder-decoder) language model of transformers.
        strengths: Signed strength of each steer: 1 is what training used for a text labelled
            +1. A number, or a tensor ``(rows,)`` with a value for each row of the batch; for a
            calibrated steer also ``"+auto"``, ``"80%"``, ``"kl:0.5"`` (see `strengths`), and a
            warning past its safe range.
        where: Positions steered. ``"all"``; ``"prompt"``, what is read in a forward call whose
            cache is empty; ``"response"``, what comes after it. At the output site the last
            position of the prompt already belongs to the response, whose first token it picks.
            Or a boolean mask ``(rows, seq)`` for a forward pass over whole sequences.
        expand: How often generation repeats each row (``num_beams``, ``num_return_sequences``).
        check: Refuse a steer whose fingerprint says that another model is meant.

    Raises:
        MismatchError: A steer of another dim or another model; on the forward pass, a batch
            whose rows do not match the strengths.
        InputError: A strength that is not finite, or an unknown `where`.
    """
    if isinstance(where, str) and where not in ("all", "prompt", "response"):
        raise InputError(f'where must be "all", "prompt", "response" or a mask, was: {where!r}')
    if expand < 1:
        raise InputError(f"expand must be at least 1, was: {expand}")
    if check:
        for steer in strengths:
            check_fit(model, steer)
    return Attachment(model, strengths, where, expand)


class Attachment:
    """An open attachment; `detach` it, or leave its ``with`` block, to undo it."""

    def __init__(
        self, model: nn.Module, strengths: Mapping[Steer, Strength], where: Where, expand: int
    ) -> None:
        self.steers = tuple(strengths)
        self._undo: list[Term | RemovableHandle] = []
        sites: dict[Site, dict[Steer, float | Tensor]] = {}
        for steer, given in strengths.items():
            strength = _checked(steer, given)
            if isinstance(strength, Tensor) or strength != 0.0:
                sites.setdefault(steer.site, {})[steer] = strength
        if not sites:
            return
        look_for_hooks()
        progress = Progress(model, where)
        if isinstance(where, str) and where != "all":
            if getattr(model.config, "is_encoder_decoder", False):
                raise UnsupportedError('where="all" is all that encoder-decoder models take')
            if "input" in sites and getattr(model, "_is_stateful", False):
                raise UnsupportedError(
                    f"{type(model).__name__} keeps a state from which prompt and response cannot "
                    'be told apart; at the input site where="all" is all that it takes'
                )
            self._undo.append(model.register_forward_pre_hook(progress.watch, with_kwargs=True))
        try:
            for site, wanted in sites.items():
                modules: list[nn.Module] = (
                    [head_of(model)] if site == "output" else [*input_tables(model)]
                )
                term = Term(stack(wanted), site, progress, expand, modules)
                self._undo.append(term)
        except BaseException:
            self.detach()
            raise

    def detach(self) -> None:
        """Undo this attachment; the model is then bitwise what it was. May be called twice."""
        if self._undo:
            look_for_hooks()
        while self._undo:
            self._undo.pop().remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.detach()


def _checked(steer: Steer, strength: Strength) -> float | Tensor:
    if isinstance(strength, Tensor) and strength.ndim == 0:
        strength = float(strength)
    if isinstance(strength, Tensor):
        if strength.ndim != 1:
            raise InputError(
                f"the strength of {steer.name!r} must be a number or a tensor of one value a "
                f"row, was a tensor of shape {tuple(strength.shape)}"
            )
        if not torch.isfinite(strength).all():
            raise InputError(f"the strengths of {steer.name!r} hold NaN or infinite values")
        for end in (float(strength.min()), float(strength.max())):
            warn_past_range(steer, end)
        return strength.detach().float() if bool((strength != 0).any()) else 0.0
    number = resolve_strength(steer, strength)
    if not math.isfinite(number):
        raise InputError(f"the strength of {steer.name!r} must be finite, was: {number}")
    warn_past_range(steer, number)
    return number


_LOCKS: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_LOCKS_LOCK = threading.Lock()


def alone(model: nn.Module) -> AbstractContextManager[bool]:
    """Keep other threads' `alone` blocks off this model: they wait, so strengths never mix."""
    with _LOCKS_LOCK:
        return _LOCKS.setdefault(model, threading.RLock())
