"""Which positions of a forward call are steered: the prompt's, the response's, or all."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from ..errors import InputError, MismatchError, UnsupportedError
from ..steer import Site
from .reading import CACHE_NAMES, cache_name
from .tables import is_stateful
from .wrappers import learned_prompt, name_of, unwrap

Part = Literal["all", "prompt", "response"]
Where = Literal["trained"] | Part | Bool[Tensor, "rows seq"]
_WORDS = ("trained", *get_args(Part))


def check_where(where: object) -> None:
    """Raise InputError unless `where` is one of the words, or a boolean mask (rows, seq)."""
    if isinstance(where, Tensor):
        if where.dtype != torch.bool or where.ndim != 2:
            raise InputError(
                "a mask given as where= is a boolean tensor of shape (rows, seq), this one is "
                f"{where.dtype} of shape {tuple(where.shape)}; compare it with something "
                "(mask > 0) or give it a dimension for the rows (mask[None])"
            )
    elif not isinstance(where, str) or where not in _WORDS:
        raise InputError(
            f"where must be one of {', '.join(map(repr, _WORDS))} or a boolean tensor of shape "
            f"(rows, seq), was: {where!r}"
        )


class PositionTracker:
    """Which positions of the current forward call are prompt, and which are response."""

    def __init__(self, model: nn.Module) -> None:
        names = list(inspect.signature(unwrap(model).forward).parameters)
        own = cache_name(model)
        self.place = names.index(own) if own in names else None
        # The model still understands forward calls that use the old name, and so does this.
        self.names = tuple(dict.fromkeys((own, *CACHE_NAMES)))
        self.reading_prompt = True

    def watch(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note the arguments of a forward call: an empty cache means that a prompt is read."""
        given = (kwargs[name] for name in self.names if kwargs.get(name) is not None)
        cache = next(given, None)
        if cache is None and self.place is not None and self.place < len(args):
            cache = args[self.place]
        self.reading_prompt = cache is None or _is_empty(cache)

    def mask(self, where: Part | Tensor, site: Site, length: int, batch: int) -> Tensor | bool:
        """True, False, or a mask (1 or batch, length, 1) of the positions to steer."""
        if isinstance(where, Tensor):
            if tuple(where.shape) != (batch, length):
                raise MismatchError(
                    f"the mask given as where= has shape {tuple(where.shape)}, "
                    f"but the batch has (rows, seq) = {(batch, length)}"
                )
            return where[..., None]
        if where == "all":
            return True
        wants_prompt = where == "prompt"
        if not self.reading_prompt:
            return not wants_prompt
        if site == "input":
            return wants_prompt
        first_response = torch.arange(length)[None, :, None] == length - 1
        return ~first_response if wants_prompt else first_response


def _is_empty(cache: Any) -> bool:
    try:
        return bool(cache.get_seq_length() == 0)
    except ValueError:  # a state has no length, but it knows whether it has read anything
        return not cache.has_previous_state()


def check_parts(model: nn.Module, acting: Iterable[tuple[Site, Part | Tensor]]) -> None:
    """Raise UnsupportedError where this model's prompt and response cannot be told apart."""
    acting = list(acting)
    apart = [site for site, where in acting if isinstance(where, str) and where != "all"]
    inside: Any = unwrap(model)
    if any(not isinstance(where, str) or where != "all" for _, where in acting):
        _check_signature(model, inside)
    if apart and getattr(inside.config, "is_encoder_decoder", False):
        raise UnsupportedError(
            'where="all" is all that encoder-decoder models take: which of their positions are '
            "prompt and which are response is not known to the tables"
        )
    if "input" in apart and is_stateful(model):
        raise UnsupportedError(
            f"{type(inside).__name__} keeps a state from which prompt and response cannot "
            'be told apart; at the input site where="all" is all that it takes'
        )


def _check_signature(model: nn.Module, inside: Any) -> None:
    """Raise where positions matter and the model's forward pass does not show them."""
    if learned_prompt(model) is not None:
        raise UnsupportedError(
            f"{name_of(model)} reads a learned prompt before every text, so that positions are no "
            'longer those of the text; where="all" is all that it takes'
        )
    if "input_ids" not in inspect.signature(inside.forward).parameters:
        raise UnsupportedError(
            f"{type(inside).__name__} does not say what its forward is called with, so prompt and "
            "response cannot be told apart. If it is wrapped around a model, give the model "
            'inside; else steer all positions with where="all"'
        )
