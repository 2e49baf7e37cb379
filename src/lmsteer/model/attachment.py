"""`attach`: put steers on a model and take them off again.

Output site: a forward pre-hook on the head, so that the model's own head (bias, scale,
soft-cap) runs on ``h + sum_i eps_i (h @ P_i) @ Q_i.T``. Input site: a forward hook on every
embedding module that holds the input table. All attachments of one site change the base row and
are added; they never compound. See README.md in this folder.
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
from .positions import Part, PositionTracker, Where, check_parts, check_where
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
    """Steer a model until the returned attachment is detached.

    Use it as a context manager, or keep the attachment and call `Attachment.detach`. Nested
    attachments are added. With no strength, or with all of them 0, the model is bitwise its own.

    Args:
        model: Any causal (or encoder-decoder) language model of transformers.
        strengths: The signed strength of each steer; 1 is the strength at which texts labelled +1
            were learned. It is a number, or a tensor ``(rows,)`` with one value per row of the
            batch; for a calibrated steer also a word such as ``"+auto"``, ``"80%"`` or
            ``"kl:0.5"``. A strength beyond the safe range of a calibrated steer gives a warning.
        where: The positions that are steered. ``"trained"``: for each steer those that it was
            trained to act on (`Steer.where`; most act on all). The other values hold for every
            steer, however it was trained. ``"all"``: every position. ``"prompt"``: what is read in
            a forward call whose cache is empty. ``"response"``: what comes after it; at the output
            site the last position of the prompt already belongs to the response, because it
            decides the first token of it. Or a boolean mask ``(rows, seq)`` for a forward pass over
            whole sequences.
        expand: The number of times that generation repeats each row (``num_beams``,
            ``num_return_sequences``).
        check: Whether to refuse a steer whose fingerprint is that of another model.

    Raises:
        MismatchError: A steer has another dim or is of another model; or, in the forward pass, the
            rows of the batch do not match the strengths.
        InputError: A strength is not finite, or `where` is unknown.
        UnsupportedError: `where` needs the prompt to be told from the response, and in this model
            it cannot be.
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
        strengths: The strength of each steer that acts: a number, or a value per row. Steers at 0
            do not act and are left out.
        where: The positions that each of them acts on: ``"all"``, ``"prompt"``, ``"response"``, or
            a mask.
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
        inside, tracker = unwrap(model), PositionTracker(model)
        watch = Watch(inside, tracker, self.strengths, self.where)
        self._undo.append(before(inside, watch.before, with_kwargs=True))
        try:
            for (site, part), steers in self._groups():
                modules: list[nn.Module] = (
                    [head_of(model)] if site == "output" else [*input_tables(model)]
                )
                watch.over(modules)
                wanted = {steer: self.strengths[steer] for steer in steers}
                self._undo.append(Term(stack(wanted), site, part, tracker, expand, modules))
        except BaseException:
            self.detach()
            raise

    def _groups(self) -> list[tuple[tuple[Site, Part | Tensor], list[Steer]]]:
        """The steers, grouped by the site and the positions that they act on."""
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
                f"the strength of {steer.name!r} must be a number or a tensor of one value per "
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
    """A lock per model: other threads' `alone` blocks wait, so strengths never mix."""
    with _LOCKS_LOCK:
        return _LOCKS.setdefault(unwrap(model), threading.RLock())
