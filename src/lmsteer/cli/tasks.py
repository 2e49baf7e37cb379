"""What ``--task`` chooses for `evaluate` and `compare`: prompts, scorers, and what counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..errors import InputError

if TYPE_CHECKING:
    from ..metrics import Scorer


class Chosen(NamedTuple):
    """A task with the user's own choices in it.

    Args:
        files: Prompts, as `lmsteer.read_prompts` takes them.
        scorers: By name.
        worst: Whether the style is one to be rid of; see `research.evaluation.measure`.
    """

    files: list[str]
    scorers: dict[str, Scorer]
    worst: bool

    @property
    def style(self) -> str:
        """The figure that says how strong the style is."""
        first = next(iter(self.scorers))
        return f"{first}.any" if self.worst else first


# Sets of prompts, scorers, and whether the style is one to be rid of.
TASKS: dict[str, tuple[list[str], list[str], bool]] = {
    "sentiment": (["neutral", "negative", "positive"], ["sentiment", "vader"], False),
    "detox": (["neutral", "negative"], ["toxicity"], True),
    "custom": ([], [], False),
}


def read_task(task: str, prompts: Sequence[str] | None, scorers: Sequence[str] | None) -> Chosen:
    """The task's prompts and scorers, or those that are given in their place.

    Raises:
        InputError: An unknown task, a custom one without prompts or scorers, or a scorer that is
            called as another figure is.
    """
    from ..metrics import load_scorer
    from ..research.evaluation import check_scorers

    if task not in TASKS:
        raise InputError(f"--task must be one of {', '.join(TASKS)}, was: {task!r}")
    sets, wanted, worst = TASKS[task]
    files = list(prompts or [f"bundled:{name}" for name in sets])
    names = scorers or wanted
    if not files or not names:
        raise InputError("--task custom needs --prompts FILE and --scorer NAME")
    found = {name: load_scorer(name) for name in names}
    check_scorers(found, worst=worst)
    return Chosen(files, found, worst)
