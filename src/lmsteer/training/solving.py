"""`read_statistics`: labelled text to sums. `solve`: sums to a steer, without any text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import nn
from typing_extensions import Unpack

from ..errors import InputError, MismatchError
from ..model import check_fit, fingerprint, read_head
from ..states import Options, Part, Statistics, gather, workers
from ..steer import Steer, check_name
from ..text import Example
from .options import StatisticsOptions
from .reading import encode_texts, in_order, keep_in, length_for
from .solvers import MEASURED_ON, choose, cross_validated
from .unit import in_units

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

STATISTICS = Options(StatisticsOptions)
LONGEST = 1024
RANK = 16
"""What the shipped steers of SmolLM2 have: more directions separate better, and write no better."""


@STATISTICS.documented
def read_statistics(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    **options: Unpack[StatisticsOptions],
) -> Statistics:
    """Read labelled texts once and add up what a steer is solved from.

    The result can be added to that of other texts, and that of some of the texts can be taken away
    again: ``solve(a + b - c, model)``. In float32 (``fast=False``) that is the steer of the texts
    that are left, to 1e-5; in bf16 a text's rows depend a little on the texts that are read beside
    it.

    Under ``torch.distributed`` each process reads its share of the texts, and all return the same.

    Args:
        model: A causal language model; it is left as it came.
        tokenizer: The model's own.
        examples: Texts with labels in [-1, 1], as many labels each; all may be equal.
        **options: See `StatisticsOptions`.

    Raises:
        InputError: There are no examples, they have differing numbers of labels, or an option has a
            value that is not allowed.
        MismatchError: The work to be resumed was begun otherwise.
        UnsupportedError: A model that this cannot be trained on.
    """
    options = STATISTICS.fill(options, "read_statistics")
    examples = in_order(examples)
    if len({len(example.labels) for example in examples}) != 1:
        raise InputError("expected texts with one number of labels, and at least one text")
    longest = length_for(model, options["max_length"], LONGEST)
    encoded = encode_texts(model, tokenizer, examples, longest, chat=options["chat"])
    head = read_head(model)
    key = {"max_length": longest, "chat": options["chat"], "fast": options["fast"]}
    (found,) = gather(
        model,
        head.fast() if options["fast"] else head,
        encoded,
        [Part(range(len(encoded)), options["sampled"])],
        progress=options["progress"],
        fast=options["fast"],
        keep=keep_in(
            options["folder"], model, examples, resume=options["resume"], memory=0.0, key=key
        ),
        workers=workers(),
    )
    return found


def solve(
    statistics: Statistics | Sequence[Statistics],
    model: nn.Module,
    *,
    name: str = "steer",
    ridge: float | None = None,
    rank: int | None = None,
    fast: bool = True,
) -> Steer:
    """The steer of all texts whose statistics are given: one damped Newton step for the style.

    Args:
        statistics: Those of texts with one label each. Several are added up; each in turn then
            judges ridges by what is learned from the others.
        model: The model that has read them, for its head alone; it is left as it came.
        name: The name of the steer.
        ridge: The strength of the penalty on the map, in units of the mean curvature; by default
            1e5 / tokens, or what several statistics choose near that.
        rank: The number of columns of P and Q; by default 16.
        fast: Compute in bf16 where the hardware multiplies it natively. That moves the length of
            the steer alone (by some tenths of a percent), and what chooses the ridge.

    Returns:
        The steer, without a domain part and without a calibration (`lmsteer.calibrate` measures
        one). At strength 1 its length is that of `train`.

    Raises:
        InputError: There are no texts, all labels are equal, there are several styles, or an
            option has a value that is not allowed.
        MismatchError: The statistics are of another model.
    """
    parts = [statistics] if isinstance(statistics, Statistics) else list(statistics)
    if not parts:
        raise InputError("no statistics given; expected those of at least some texts")
    total = sum(parts[1:], parts[0])
    _check(total, ridge, rank)
    mark = fingerprint(model)
    if not total.fingerprint.matches(mark):
        raise MismatchError(
            f"the statistics are of another model ({total.fingerprint.model or 'without a name'}) "
            f"than {mark.model}: read the texts with this one"
        )
    head = read_head(model)
    head = head.fast() if fast else head
    rank = min(RANK, total.dim) if rank is None else rank
    if len(parts) > 1 and ridge is None:
        ridge = cross_validated(parts, head, rank)
    chosen = choose(total, head, None, ridge, rank)
    ((P, Q),) = chosen.factors()
    P, Q = in_units(head, total.sample.to(head.weight.device).spread(MEASURED_ON), P, Q)
    record = {
        "solver": "newton",
        "course": {"ridge": chosen.course["ridge"]},
        "statistics": {"texts": total.texts, "tokens": total.tokens, "parts": len(parts)},
    }
    steer = Steer(P, Q, name=check_name(name), fingerprint=mark, record=record)
    check_fit(model, steer)
    return steer


def _check(total: Statistics, ridge: float | None, rank: int | None) -> None:
    """Raise InputError for what no steer can be solved from."""
    if total.styles != 1:
        raise InputError(f"solve() learns one style, and these texts have {total.styles} labels")
    weight = total.weight[0, 0]
    if total.texts < 2 or not len(total.sample) or weight <= 0:
        raise InputError(
            f"{total.texts} texts with {total.tokens} tokens are left: too few to learn from"
        )
    mean = total.weight[0, 1] / weight
    if total.weight[1, 1] / weight - mean.square() < 1e-6:
        raise InputError(
            f"all {total.texts} texts have the label {float(mean):g}: a steer learns what "
            "separates labels, so add texts of the other kind"
        )
    if ridge is not None and not 0 < ridge < float("inf"):
        raise InputError(f"ridge must be a number above 0, was: {ridge}")
    if rank is not None and not 1 <= rank <= total.dim:
        raise InputError(f"rank must be between 1 and {total.dim}, was: {rank}")
