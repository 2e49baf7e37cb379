"""`train` and `train_jointly`: training with calibration after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import nn
from typing_extensions import Unpack

from ..errors import InputError
from ..states import Progress
from ..steer import Steer
from ..text import Example
from ..training import OPTIONS, TrainOptions, fit
from .calibration import calibrate as measure

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CALIBRATED = (-5.0, -3.0, -1.0, 0.0, 1.0, 3.0, 5.0)
"""The strengths that are measured after training: `calibrate` itself takes half as many again."""


@OPTIONS.documented
def train(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    *,
    name: str | None = None,
    calibrate: bool = True,
    **options: Unpack[TrainOptions],
) -> Steer:
    """Learn a steer from labelled text. The model stays frozen and is left as it came.

    Under ``torch.distributed`` (``accelerate launch``, ``torchrun``) each process reads its share
    of the texts, and all return one steer, that of a single process (see `fast`).

    Args:
        model: A causal language model of transformers, on one device or spread over several.
        tokenizer: The model's own.
        examples: Texts with labels in [-1, 1]; at least two labels must differ.
        name: The name of the steer; "steer" by default.
        calibrate: Whether to measure afterwards what each strength costs (`lmsteer.calibrate` with
            seven strengths and two samples per prompt), so that strengths such as ``"+auto"`` can
            be given.
        **options: See `TrainOptions`.

    Returns:
        The steer. `Steer.record` says how it was made: the data's digest and counts, the held-out
        NLL in nats per token before and after, the seconds, and the course of training.

    Warns:
        DataWarning: One sign of the label has too few different texts to be held out as well.

    Raises:
        InputError: There are no examples, all labels are equal, or an option has a value that is
            not allowed.
        MismatchError: The work to be resumed was begun otherwise: the message says what differs.
        UnsupportedError: The model is one on which this cannot be trained.

    Source: Han et al. 2024, section 3.2; the official recipe is github.com/Glaciohound/LM-Steer.
    """
    several = next((e for e in examples if len(e.labels) > 1), None)
    if several is not None:
        raise InputError(
            f"train() learns one style, and an example has {len(several.labels)} labels; "
            "train_jointly() learns several styles together"
        )
    steers = fit(model, tokenizer, examples, [name or "steer"], **options)
    return calibrated(model, tokenizer, steers, calibrate, options.get("progress"))[0]


@OPTIONS.documented
def train_jointly(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    names: Sequence[str],
    *,
    calibrate: bool = True,
    **options: Unpack[TrainOptions],
) -> list[Steer]:
    """Learn several steers from texts with several labels each, in one pass and one fit.

    A text with labels (y_1, y_2, ...) is scored under the sum of the steers at these strengths, so
    styles that often come together are told apart as well as the texts allow.

    Args:
        model: A causal language model of transformers.
        tokenizer: The model's own.
        examples: Texts with a tuple of labels each, as many as there are names; every label takes
            at least two different values.
        names: The names of the steers, in the order of the labels.
        calibrate: Whether to measure what each strength costs, as in `train`.
        **options: See `TrainOptions`.

    Returns:
        The steers. They share one domain part.

    Raises:
        InputError: As for `train`, or the labels do not fit the names.
    """
    steers = fit(model, tokenizer, examples, names, **options)
    return calibrated(model, tokenizer, steers, calibrate, options.get("progress"))


def calibrated(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    steers: list[Steer],
    wanted: bool,
    progress: Progress | None,
) -> list[Steer]:
    """The steers with what each strength of them costs, if wanted, measured as `train` does."""
    if not wanted:
        return steers
    return [
        measure(model, tokenizer, steer, strengths=CALIBRATED, samples=2, progress=progress)
        for steer in steers
    ]
