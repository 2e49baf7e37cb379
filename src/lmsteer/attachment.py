"""`attach`: put steers on a model and take them off again. Every hook on a model lives here.

Output site: a forward pre-hook on the head, so that the model's own head (bias, scale,
soft-cap) runs on ``h + sum_i eps_i (h @ P_i) @ Q_i.T``. Input site: a forward hook on every
embedding module that holds the input table. All attachments of one site add up on the base
row; they never compound.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .errors import InputError, MismatchError, UnsupportedError
from .head import fingerprint, head_of, input_tables
from .steer import Site, Steer
from .strengths import resolve_strength, warn_past_range

if TYPE_CHECKING:
    from typing import Self

    from torch.utils.hooks import RemovableHandle

Strength = float | str | Float[Tensor, " rows"]
Where = Literal["all", "prompt", "response"] | Bool[Tensor, "rows seq"]


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


def check_fit(model: nn.Module, steer: Steer) -> None:
    """Raise MismatchError unless the steer was made for this model's embeddings."""
    found = fingerprint(model, steer.site)
    dim = head_of(model).in_features if steer.site == "output" else input_dim(model)
    if steer.dim != dim:
        raise MismatchError(
            f"steer {steer.name!r} acts on embeddings of dim {steer.dim}, but this model's "
            f"{steer.site} embeddings have dim {dim}{_trained_on(steer)}; "
            "use a steer trained on this model, or lmsteer.transfer"
        )
    wanted = steer.fingerprint
    if wanted is not None and not wanted.matches(found):
        raise MismatchError(
            f"steer {steer.name!r} was trained on other weights{_trained_on(steer)}: the "
            f"fingerprints agree to cosine {wanted.similarity(found):.3f}, 0.99 is needed; "
            "use a steer trained on this model, or lmsteer.transfer"
        )


def _trained_on(steer: Steer) -> str:
    name = steer.fingerprint.model if steer.fingerprint is not None else ""
    return f" (it was trained on {name!r})" if name else ""


def input_dim(model: nn.Module) -> int:
    """Width of the input embeddings."""
    return input_tables(model)[0].weight.shape[1]


class Attachment:
    """An open attachment; `detach` it, or leave its ``with`` block, to undo it."""

    def __init__(
        self, model: nn.Module, strengths: Mapping[Steer, Strength], where: Where, expand: int
    ) -> None:
        self.steers = tuple(strengths)
        self._undo: list[_Term | RemovableHandle] = []
        sites: dict[Site, dict[Steer, float | Tensor]] = {}
        for steer, given in strengths.items():
            strength = _checked(steer, given)
            if isinstance(strength, Tensor) or strength != 0.0:
                sites.setdefault(steer.site, {})[steer] = strength
        if not sites:
            return
        _look_for_hooks()
        progress = _Progress(model, where)
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
                term = _Term(_stack(wanted), site, progress, expand, modules)
                self._undo.append(term)
        except BaseException:
            self.detach()
            raise

    def detach(self) -> None:
        """Undo this attachment; the model is then bitwise what it was. May be called twice."""
        if self._undo:
            _look_for_hooks()
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


@dataclass(frozen=True, eq=False)
class _Stack:
    """Several steers side by side: (h @ P * strength) @ Q.T, or h @ dense."""

    P: Float[Tensor, "dim rank"]
    Q: Float[Tensor, "dim rank"]
    rows: Float[Tensor, "rows rank"] | None
    dense: Float[Tensor, "dim dim"] | None


def _stack(wanted: Mapping[Steer, float | Tensor]) -> _Stack:
    P = torch.cat([steer.P for steer in wanted], dim=1)
    Q = torch.cat([steer.Q for steer in wanted], dim=1)
    varying = [s for s in wanted.values() if isinstance(s, Tensor)]
    if not varying:
        Q = torch.cat([steer.Q * float(s) for steer, s in wanted.items()], dim=1)
        # Past half of full rank one square product is cheaper than two thin ones.
        dense = P @ Q.T if 2 * P.shape[1] > P.shape[0] else None
        return _Stack(P, Q, None, dense)
    count = len(varying[0])
    if any(len(s) != count for s in varying):
        sizes = {steer.name: len(s) for steer, s in wanted.items() if isinstance(s, Tensor)}
        raise MismatchError(f"every tensor of strengths must have one value a row; got {sizes}")
    columns = [
        (s.cpu() if isinstance(s, Tensor) else torch.full((count,), s))[:, None].expand(
            count, steer.rank
        )
        for steer, s in wanted.items()
    ]
    return _Stack(P, Q, torch.cat(columns, dim=1), None)


class _Progress:
    """Knows, within one forward call, which positions are prompt and which are response."""

    def __init__(self, model: nn.Module, where: Where) -> None:
        self.where = where
        self.cache = cache_name(model)
        self.reading_prompt = True

    def watch(self, model: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        cache = kwargs.get(self.cache)
        self.reading_prompt = cache is None or cache.get_seq_length() == 0

    def mask(self, site: Site, length: int, batch: int) -> Tensor | bool:
        """True, False, or a mask (1 or batch, length, 1) of the positions to steer."""
        if isinstance(self.where, Tensor):
            if tuple(self.where.shape) != (batch, length):
                raise MismatchError(
                    f"the mask given as where= has shape {tuple(self.where.shape)}, "
                    f"but the batch has (rows, seq) = {(batch, length)}"
                )
            return self.where[..., None]
        if self.where == "all":
            return True
        wants_prompt = self.where == "prompt"
        if not self.reading_prompt:
            return not wants_prompt
        if site == "input":
            return wants_prompt
        first_response = torch.arange(length)[None, :, None] == length - 1
        return ~first_response if wants_prompt else first_response


@dataclass(eq=False)
class _Term:
    """What one attachment adds at one site."""

    stack: _Stack
    site: Site
    progress: _Progress
    expand: int
    modules: list[nn.Module]
    thread: int = field(default_factory=threading.get_ident)
    _casts: dict[tuple[torch.device, torch.dtype], _Stack] = field(default_factory=dict)

    def __post_init__(self) -> None:
        here = threading.get_ident()
        alive = {thread.ident for thread in threading.enumerate()} - {here}
        for module in self.modules:
            terms = _HOOKED[module].terms if module in _HOOKED else []
            if any(term.thread in alive for term in terms):
                raise InputError(
                    "another thread has steers attached to this model, and hooks are shared by "
                    "all threads: it would see these strengths too. Use lmsteer.generate, whose "
                    "calls wait for each other, or a copy of the model for each thread"
                )
            _terms_of(module, self.site).append(self)

    def remove(self) -> None:
        for module in self.modules:
            hooked = _HOOKED[module]
            hooked.terms.remove(self)
            if not hooked.terms:
                hooked.handle.remove()
                del _HOOKED[module]

    def delta(self, hidden: Float[Tensor, "batch *seq dim"]) -> Tensor | None:
        """The change of each row of `hidden`; None for no change anywhere."""
        length = hidden.shape[1] if hidden.ndim == 3 else 1
        mask = self.progress.mask(self.site, length, hidden.shape[0])
        if mask is False:
            return None
        stack = self._cast(hidden)
        if stack.dense is not None:
            change = hidden @ stack.dense
        elif stack.rows is None:
            change = (hidden @ stack.P) @ stack.Q.T
        else:
            rows = stack.rows.repeat_interleave(self.expand, dim=0)
            if rows.shape[0] != hidden.shape[0]:
                raise MismatchError(
                    f"strengths were given for {stack.rows.shape[0]} rows x expand="
                    f"{self.expand} = {rows.shape[0]}, but the batch has {hidden.shape[0]} rows; "
                    "give one value a row, and expand= for beams or num_return_sequences"
                )
            if hidden.ndim == 3:
                rows = rows[:, None]
            change = ((hidden @ stack.P) * rows) @ stack.Q.T
        return change if mask is True else change * mask.to(change)

    def _cast(self, hidden: Tensor) -> _Stack:
        key = (hidden.device, hidden.dtype)
        if key not in self._casts:
            s = self.stack
            rows = None if s.rows is None else s.rows.to(*key)
            dense = None if s.dense is None else s.dense.to(*key)
            self._casts[key] = _Stack(s.P.to(*key), s.Q.to(*key), rows, dense)
        return self._casts[key]


@dataclass(frozen=True, eq=False)
class _Hooked:
    handle: RemovableHandle
    terms: list[_Term]


# One hook a module, however many attachments: their changes add up on the same base row.
_HOOKED: WeakKeyDictionary[nn.Module, _Hooked] = WeakKeyDictionary()


def _terms_of(module: nn.Module, site: Site) -> list[_Term]:
    if module not in _HOOKED:
        terms: list[_Term] = []

        def steered(hidden: Tensor) -> Tensor:
            changes = [term.delta(hidden) for term in terms]
            for change in changes:
                hidden = hidden if change is None else hidden + change
            if hidden.dtype == torch.float16 and not bool(torch.isfinite(hidden).all()):
                raise InputError(
                    "this strength takes the hidden states past what float16 can hold (65,504); "
                    "use a smaller strength, or load the model in bfloat16 or float32"
                )
            return hidden

        if site == "output":
            handle = module.register_forward_pre_hook(
                lambda module, args: (steered(args[0]), *args[1:])
            )
        else:
            handle = module.register_forward_hook(lambda module, args, output: steered(output))
        _HOOKED[module] = _Hooked(handle, terms)
    return _HOOKED[module].terms


_LOCKS: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_LOCKS_LOCK = threading.Lock()


def alone(model: nn.Module) -> AbstractContextManager[bool]:
    """Keep other threads' `alone` blocks off this model: they wait, so strengths never mix."""
    with _LOCKS_LOCK:
        return _LOCKS.setdefault(model, threading.RLock())


def _look_for_hooks() -> None:
    """Make code of torch.compile notice hooks that come and go; by default it does not look.

    What was compiled before this is compiled anew, once.
    """
    dynamo = sys.modules.get("torch._dynamo")  # importing it would take a second
    if dynamo is not None and dynamo.config.skip_nnmodule_hook_guards:
        dynamo.config.skip_nnmodule_hook_guards = False
        dynamo.reset()


@contextlib.contextmanager
def changed_inputs(
    model: nn.Module, change: Callable[[Float[Tensor, "batch seq dim"]], Tensor]
) -> Iterator[None]:
    """Within the block, the model reads `change(embeddings)`; gradients flow through it.

    What training at the input site needs: `attach` takes finished steers.
    """

    def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        return change(output)

    handles = [table.register_forward_hook(hook) for table in input_tables(model)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Reached(Exception):
    """Raised at the head to stop a forward pass there; carries what the head would have read."""

    def __init__(self, hidden: Tensor) -> None:
        self.hidden = hidden


def cache_name(model: nn.Module) -> str:
    """What a model's forward calls its cache: "past_key_values", from transformers 5.24 "cache"."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def read_hidden(model: nn.Module, **inputs: Any) -> Float[Tensor, "batch seq dim"]:
    """The rows that the head would read, without running the head.

    Args:
        model: The language model, in eval mode.
        **inputs: What its forward takes: ``input_ids``, ``attention_mask``, ...; a cache given
            under its `cache_name`, with ``use_cache=True``, is filled.

    Returns:
        The base rows, before any steer attached at the output site.
    """
    here = threading.get_ident()

    def stop(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        if threading.get_ident() == here:  # another thread may be generating
            raise _Reached(args[0])

    handle = head_of(model).register_forward_pre_hook(stop, prepend=True)
    try:
        model(**{"use_cache": False, **inputs})
    except _Reached as reached:
        return reached.hidden
    finally:
        handle.remove()
    raise UnsupportedError(
        f"{type(model).__name__} never called its output embeddings in a forward pass"
    )
