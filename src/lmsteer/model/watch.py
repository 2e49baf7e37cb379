"""Checks before each forward call that a steered model is still as it was when it was attached."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError, MismatchError
from ..steer import Steer
from .positions import Part, PositionTracker
from .wrappers import plain_layer, unwrap

_Seat = tuple[tuple[str, ...], nn.Module, torch.Size]
"""The path from the model to a steered module, the module, and the shape of its table."""


@dataclass(eq=False)
class Watch:
    """One attachment, as the hook on the model itself sees it.

    Args:
        model: The model itself, not a wrapper.
        tracker: What notes every forward call.
        strengths: The strengths of the steers that act.
        where: The positions that each steer acts on.
    """

    model: nn.Module
    tracker: PositionTracker
    strengths: Mapping[Steer, float | Tensor]
    where: Mapping[Steer, Part | Tensor]

    def __post_init__(self) -> None:
        self._seats: list[_Seat] = []

    def over(self, modules: list[nn.Module]) -> None:
        """Watch these modules too: they must stay in the model, with tables of their size."""
        for path, module in _paths(self.model, ()):
            if any(module is steered for steered in modules):
                self._seats.append((path, module, plain_layer(module).weight.shape))

    def before(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A forward pre-hook.

        Raises:
            MismatchError: The head or an input table was replaced or resized.
        """
        for path, module, shape in self._seats:
            found: Any = self.model
            for name in path:
                found = found._modules.get(name) if found is not None else None
            if found is not module:
                raise MismatchError(_changed(path, "was replaced by another module"))
            now = plain_layer(module).weight.shape
            if now != shape:
                raise MismatchError(_changed(path, f"went from {tuple(shape)} to {tuple(now)}"))
        self.tracker.watch(args, kwargs)


def _paths(module: nn.Module, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], nn.Module]]:
    """Every path to every module; a module that has two places has two paths."""
    for name, child in module._modules.items():
        if child is not None:
            yield (*path, name), child
            yield from _paths(child, (*path, name))


def _changed(path: tuple[str, ...], what: str) -> str:
    return (
        f"{'.'.join(path)} {what} while steers were attached to it, so they no longer act as they "
        "should: detach them, change the model, and attach them anew"
    )


def watches(model: nn.Module) -> list[Watch]:
    """All open attachments of a model, the oldest first."""
    owners = (getattr(told, "__self__", None) for told in unwrap(model)._forward_pre_hooks.values())
    return [owner for owner in owners if isinstance(owner, Watch)]


def around(model: nn.Module) -> dict[Steer, float]:
    """The strengths of the steers that are attached to a model, summed over all attachments.

    Raises:
        InputError: Strengths or a mask belong to the rows of one batch, and `generate` makes other
            batches.
    """
    total: dict[Steer, float] = {}
    for watch in watches(model):
        for steer, strength in watch.strengths.items():
            if isinstance(strength, Tensor) or isinstance(watch.where[steer], Tensor):
                raise InputError(
                    f"steer {steer.name!r} is attached with a tensor for the rows of one batch, "
                    "but generate arranges its rows by itself: give generate the strengths of each "
                    "prompt (strengths=[...], per_prompt=True) outside of the attachment"
                )
            total[steer] = total.get(steer, 0.0) + strength
    return total
