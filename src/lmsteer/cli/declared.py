"""Options that the library declares, as options of a command."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args

import typer

if TYPE_CHECKING:
    from ..states import Option

F = TypeVar("F", bound=Callable[..., None])


def takes(
    declared: Mapping[str, Option], *, without: Collection[str] = (), **shared: Any
) -> Callable[[F], F]:
    """Give a command every option that the library declares, in place of its ``**options``.

    Name, type, default and help are the declared ones, so that an option of the library is an
    option of the command as soon as it is declared.

    Args:
        declared: The library's options.
        without: Options that mean nothing on a command line, or that the command declares itself.
        **shared: The annotation from `options` of those that other commands take too.
    """

    def decorate(command: F) -> F:
        whole = inspect.signature(command, eval_str=True)
        *own, _ = whole.parameters.values()
        added = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=option.default,
                annotation=shared.get(name) or _annotation(name, option),
            )
            for name, option in declared.items()
            if name not in without
        ]
        command.__signature__ = whole.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
        return command

    return decorate


def _annotation(name: str, option: Option) -> Any:
    """The type that a command line can give, with the flag and the declared help."""
    kinds = [kind for kind in (bool, int, float) if kind in (option.type, *get_args(option.type))]
    kind: Any = kinds[0] if kinds else str
    flag = f"--{name.replace('_', '-')}"
    if kind is bool and option.default:
        flag = f"{flag}/--no-{flag[2:]}"
    told = typer.Option(flag, help=option.help.replace("`", ""))
    return Annotated[kind if option.default is not None else kind | None, told]
