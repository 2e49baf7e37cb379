"""Options that are declared once: name, type, default, check and help in one line of a TypedDict.

    class SamplingOptions(JobOptions, total=False):
        top_p: Annotated[float, Option(1.0, "Sample from ...", above_zero_up_to(1))]

    OPTIONS = Options(SamplingOptions)

    @OPTIONS.documented
    def sample(model, **options: Unpack[SamplingOptions]) -> str:
        told = OPTIONS.fill(options, "sample")  # every option: as given and checked, or its default

The type checker reads the TypedDict. `help` and the pages of the API show the signature and the
docstring, which `Options.documented` completes. Records and the command line read `Options`, a
mapping from names to options.
"""

# No `from __future__ import annotations`: the declarations are read when the program runs.
import difflib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, NamedTuple, TypedDict, TypeVar, cast, get_type_hints

from ..errors import InputError
from .progress import SHOWN, Progress, watched

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class Check(NamedTuple):
    """Which values an option may have.

    Args:
        expected: The allowed values, as messages name them after "must be".
        allows: Whether a value is allowed.
    """

    expected: str
    allows: Callable[[Any], bool]


def at_least(least: float) -> Check:
    """A number that is not below `least`."""
    return Check(f"at least {least}", lambda value: value >= least)


def among(values: tuple[str, ...]) -> Check:
    """One of some words."""
    return Check(f"one of {values}", lambda value: value in values)


@dataclass(frozen=True)
class Option:
    """One option: everything but its name and its type, which stand beside it.

    Args:
        default: The value where none is given.
        help: What the option does, in whole sentences; the first one says the most important.
        check: The values that are allowed; None allows all. None as a value is always allowed
            where it is the default.
        decides: Whether another value may give another result. Such options belong to the key of
            work that is resumed.
        recorded: Whether a result's record keeps the value under the option's name.
        type: The type; read from the declaration.
    """

    default: Any
    help: str
    check: Check | None = None
    decides: bool = True
    recorded: bool = True
    type: Any = None

    @property
    def summary(self) -> str:
        """The first sentence of the help, for where there is room for one line."""
        return re.split(r"(?<=[.:]) ", self.help, maxsplit=1)[0]


class WatchedOptions(TypedDict, total=False):
    """The option of everything that takes a while."""

    progress: Annotated[
        Progress | None,
        Option(
            SHOWN,
            "How the work reports how far it is. By default one line on stderr, with an estimate "
            "of the time that is left, in a terminal or a notebook and after two seconds; nothing "
            "elsewhere. None: nothing. A function: it is called as ``progress(stage, done, "
            "total)``.",
            decides=False,
            recorded=False,
        ),
    ]


class JobOptions(WatchedOptions, total=False):
    """The options of everything that draws at random and takes a while."""

    seed: Annotated[
        int,
        Option(0, "The seed of all that is drawn at random: the same seed gives the same result."),
    ]


class Options(Mapping[str, Option], Generic[T]):
    """All options of a function, by name.

    Args:
        kind: The TypedDict that declares them.
        **defaults: Defaults that differ from the declared ones.
    """

    def __init__(self, kind: type[T], **defaults: Any) -> None:
        self._declared: dict[str, Option] = {}
        for name, hint in get_type_hints(kind, include_extras=True).items():
            declared: Option = hint.__metadata__[0]
            values = {**vars(declared), "type": hint.__origin__}
            if name in defaults:
                values["default"] = defaults.pop(name)
            self._declared[name] = Option(**values)
        assert not defaults, f"defaults of options that {kind} does not declare: {defaults}"

    def __getitem__(self, name: str) -> Option:
        return self._declared[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._declared)

    def __len__(self) -> int:
        return len(self._declared)

    def fill(self, given: Mapping[str, Any], of: str) -> T:
        """Every option: the given values, checked, and the defaults of the others.

        Args:
            given: Values by name.
            of: The function that was called, as messages name it.

        Raises:
            InputError: An option that is not declared, or a value that is not allowed.
        """
        for name in given:
            if name not in self:
                near = difflib.get_close_matches(name, self, 1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise InputError(
                    f"{of}() has no option {name!r}; {hint}Its options are: {', '.join(self)}"
                )
        filled = {name: given.get(name, option.default) for name, option in self.items()}
        for name, value in filled.items():
            _check(name, value, self[name])
        return cast(T, filled)

    def part(self, told: Mapping[str, Any]) -> T:
        """These options alone, of a larger set that `fill` has filled."""
        return cast(T, {name: told[name] for name in self})

    def documented(self, function: F) -> F:
        """Show the options in a function's signature and docstring, in place of ``**options``.

        The default of ``progress`` then draws by itself: see `progress.watched`.
        """
        whole = inspect.signature(function)
        *named, _ = whole.parameters.values()
        keyword = inspect.Parameter.KEYWORD_ONLY
        shown = [
            inspect.Parameter(name, keyword, default=option.default, annotation=option.type)
            for name, option in self.items()
        ]
        if "progress" in self:
            function = watched(function)
        function.__signature__ = whole.replace(parameters=[*named, *shown])  # type: ignore[attr-defined]
        if function.__doc__:
            entry = re.compile(r"^( *)\*\*options:.*?\n(?=\s*\n|\1\S)", re.DOTALL | re.MULTILINE)
            function.__doc__ = entry.sub(lambda found: self._text(found[1]), function.__doc__)
        return function

    def _text(self, indent: str) -> str:
        entries = []
        for name, option in self.items():
            entry = f"{indent}{name}: {option.help}"
            entries += textwrap.wrap(entry, 100, subsequent_indent=f"{indent}    ")
        return "\n".join(entries) + "\n"


def _check(name: str, value: Any, option: Option) -> None:
    if option.check is None or (value is None and option.default is None):
        return
    try:
        allowed = option.check.allows(value)
    except TypeError:  # a word where a number is expected, say
        allowed = False
    if not allowed:
        raise InputError(f"{name} must be {option.check.expected}, was: {value!r}")
