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
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import InputError
from ..steer import Site, Steer, resolve_strength, warn_past_range
from .hooks import Hook, before
from .identity import check_fit
from .positions import Part, Phase, Where, check_parts, check_where
from .stack import stack
from .tables import head_of, input_tables
from .terms import Term
from .watch import Watch
from .wrappers import unwrap

if TYPE_CHECKING:
    from typing import Self

Strength = float | str | Float[Tensor, " rows"]


def attach(
    model: nn.Module,
    strengths: Mapping[Steer, Strength],
    *,
    where: Where | str = "trained",
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
        where: Positions steered. ``"trained"``, for each steer those that it was trained to act on
            (`Steer.where`; most act on all). The others hold for every steer, however it was
            trained: ``"all"``; ``"prompt"``, what is read in a forward call whose cache is empty;
            ``"response"``, what comes after it. At the output site the last position of the
            prompt already belongs to the response, whose first token it picks. Or a boolean mask
            ``(rows, seq)`` for a forward pass over whole sequences.
        expand: How often generation repeats each row (``num_beams``, ``num_return_sequences``).
        check: Refuse a steer whose fingerprint says that another model is meant.

    Raises:
        MismatchError: A steer of another dim or another model; on the forward pass, a batch
            whose rows do not match the strengths.
        InputError: A strength that is not finite, or an unknown `where`.
        UnsupportedError: A model whose prompt cannot be told from its response, where they must be.
    """
    check_where(where)
    if expand < 1:
        raise InputError(f"expand must be at least 1, was: {expand}")
    if check:
        for steer in strengths:
            check_fit(model, steer)
    return Attachment(model, strengths, where, expand)


class Attachment:
    """An open attachment; `detach` it, or leave its ``with`` block, to undo it.

    Attributes:
        strengths: Of each steer that acts: a number, or a value for each row. Those at 0 do not.
        where: What each of them acts on: ``"all"`` positions, the ``"prompt"``, the
            ``"response"``, or a mask.
    """

    def __init__(
        self, model: nn.Module, strengths: Mapping[Steer, Strength], where: Where | str, expand: int
    ) -> None:
        self._undo: list[Term | Hook] = []
        self._entered = self._closed = False
        self.strengths: dict[Steer, float | Tensor] = {}
        self.where: dict[Steer, Part | Tensor] = {}
        for steer, given in strengths.items():
            strength = _checked(steer, given)
            if isinstance(strength, Tensor) or strength != 0.0:
                self.strengths[steer] = strength
                told = isinstance(where, str) and where == "trained"
                self.where[steer] = steer.where if told else cast("Part | Tensor", where)
        if not self.strengths:
            return
        check_parts(model, ((steer.site, part) for steer, part in self.where.items()))
        inside, phase = unwrap(model), Phase(model)
        watch = Watch(inside, phase, self.strengths, self.where)
        self._undo.append(before(inside, watch.before, with_kwargs=True))
        try:
            for (site, part), steers in self._groups():
                modules: list[nn.Module] = (
                    [head_of(model)] if site == "output" else [*input_tables(model)]
                )
                watch.over(modules)
                wanted = {steer: self.strengths[steer] for steer in steers}
                self._undo.append(Term(stack(wanted), site, part, phase, expand, modules))
        except BaseException:
            self.detach()
            raise

    def _groups(self) -> list[tuple[tuple[Site, Part | Tensor], list[Steer]]]:
        """The steers that act at one site on one part; they go through it as one."""
        found: dict[tuple[Site, Any], tuple[tuple[Site, Part | Tensor], list[Steer]]] = {}
        for steer, part in self.where.items():
            key = (steer.site, part if isinstance(part, str) else id(part))
            found.setdefault(key, ((steer.site, part), []))[1].append(steer)
        return list(found.values())

    def detach(self) -> None:
        """Undo this attachment; the model is then bitwise what it was. May be called twice."""
        self._closed = True
        while self._undo:
            self._undo.pop().remove()

    def __repr__(self) -> str:
        acting = ", ".join(
            f"{steer.name!r} {_shown(strength)} on {_place(self.where[steer])}"
            for steer, strength in self.strengths.items()
        )
        return f"Attachment({acting or 'nothing'}{', closed' if self._closed else ''})"

    def __enter__(self) -> Self:
        if self._closed:
            raise InputError(
                "this attachment is closed, and steers nothing any more: call lmsteer.attach again"
            )
        if self._entered:
            raise InputError(
                "this attachment is open in a with block already, which will close it; for another "
                "block call lmsteer.attach again: attachments add up"
            )
        self._entered = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.detach()


def _shown(strength: float | Tensor) -> str:
    return f"at {strength:+g}" if isinstance(strength, float) else f"in {len(strength)} rows"


def _place(part: Part | Tensor) -> str:
    if isinstance(part, Tensor):
        return "a mask"
    return {"all": "all positions", "prompt": "the prompt", "response": "the response"}[part]


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
        return _LOCKS.setdefault(unwrap(model), threading.RLock())
