"""`train` and `train_jointly`: what a user calls."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from ..errors import InputError
from ..states import Progress
from ..steer import Reach, Site, Steer
from ..text import Example, Weight
from ..training import Options, Solver, learn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def train(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    *,
    name: str | None = None,
    rank: int | None = None,
    site: Site | str = "output",
    solver: Solver | str = "convex",
    seed: int = 0,
    fast: bool = True,
    domain: bool = True,
    weight: Weight | str = "token",
    balance: bool = False,
    chat: bool = False,
    held_out: float = 0.1,
    salt: str = "",
    max_length: int | None = None,
    steps: int | None = None,
    ridge: float | None = None,
    calibrate: bool = True,
    memory: float = 4.0,
    folder: str | PathLike[str] | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    start: Steer | None = None,
    where: Reach | str = "all",
    checkpointing: bool = False,
) -> Steer:
    """Learn a steer from labelled text. The model stays frozen and is left as it came.

    Under ``torch.distributed`` (``accelerate launch``, ``torchrun``) each process reads its share
    of the texts, and all return one steer, that of a single process (see `fast`).

    Args:
        model: A causal language model of transformers, on one device or spread over several.
        tokenizer: The model's own.
        examples: Texts with labels in [-1, 1]; two different labels at least.
        name: What to call the steer; "steer" by default.
        rank: Columns of P and Q to keep, 1 to dim, in both parts. By default, for each part, the
            fewest (of 4, 8, 16, ..., dim) that stay within 0.002 nats of the best of those tried
            on the held-out texts; all of them where nothing is held out, and for the other
            solvers.
        site: ``"output"``, the paper's LM-Steer; ``"input"``, Input-Steer: the same map on the
            input embeddings, by gradients through the frozen trunk (rank 32 by default; `solver`,
            `memory` and `folder` have no say). It changes how text is read.
        solver: ``"convex"``, second-order steps on cached states, the same steer from the same
            texts in any order; ``"cached"``, Adam on the same states; ``"paper"``, the official
            recipe.
        seed: Of ``"cached"`` and ``"paper"``; ``"convex"`` has none.
        fast: Use bf16 where the hardware multiplies it natively (figures in the record stay
            float32's). Several times faster; but bf16 turns last bits into visible differences,
            so that another number of processes gives a steer that differs by about 0.5% (its
            held-out NLL by 1e-4). False: all in float32, and the same to 1e-4.
        domain: Learn the domain part too: what all the texts share, whatever their label.
        weight: ``"token"`` (each target token counts the same) or ``"text"`` (each text does).
        balance: Give both signs of the label the same total weight.
        chat: The model is a chat model: each prompt is a user's turn, put into the tokenizer's chat
            template, and the text is the answer, from which alone is learned.
        held_out: Share of the different texts to stop and to report on, in [0, 1). Each side of
            the label is learned from, and held out too wherever it has two different texts.
        salt: Another salt holds out other texts.
        max_length: Longer texts are cut to so many tokens; by default the model's context, at
            most 1024 (256 for ``"paper"``).
        steps: At most so many optimiser steps; by default the solver's own number.
        ridge: Of ``"convex"``, in units of the mean curvature: above 0. By default chosen on the
            held-out texts below 65,536 tokens, else 1e5 / tokens.
        calibrate: Measure afterwards what each strength costs (`lmsteer.calibrate`, two samples
            of each prompt), so that strengths such as ``"+auto"`` can be given.
        memory: GiB of hidden states to hold in memory; more lie in a temporary file.
        folder: Keep the states in this folder as they are read, so that an interrupted pass can
            be resumed (a kill loses at most 16 batches). It is the caller's to delete.
        resume: Go on with what `folder` holds.
        progress: Called as ``progress(stage, done, total)``.
        start: A steer of this model to begin at, and to be held to where the texts say little;
            for ``"convex"`` and at the input site. By default the base model.
        where: At the input site, ``"prompt"`` steers the prompts of the examples alone; the loss
            is on the texts after them, as always. `Steer.where` keeps this: `attach` and
            `generate` then steer the prompt alone, unless they are told otherwise.
        checkpointing: At the input site, compute activations twice instead of holding them.

    Returns:
        The steer. `Steer.record` says how it was made: the data's digest and counts, held-out
        NLL in nats a token before and after, seconds, and the course of training.

    Warns:
        DataWarning: A side of the label has too few different texts to be held out as well.

    Raises:
        InputError: No examples, only one label, an option out of range.
        MismatchError: What is to be resumed was begun otherwise: the message says what differs.
        UnsupportedError: A model this cannot be trained on.

    Source: Han et al. 2024, section 3.2; the official recipe is github.com/Glaciohound/LM-Steer.
    """
    several = next((e for e in examples if len(e.labels) > 1), None)
    if several is not None:
        raise InputError(
            f"train() learns one style, an example has {len(several.labels)} labels; "
            "train_jointly() learns several together"
        )
    options = Options(
        rank=rank,
        site=site,
        solver=solver,
        seed=seed,
        fast=fast,
        domain=domain,
        weight=weight,
        balance=balance,
        chat=chat,
        held_out=held_out,
        salt=salt,
        max_length=max_length,
        steps=steps,
        ridge=ridge,
        memory=memory,
        folder=None if folder is None else Path(folder),
        resume=resume,
        progress=progress,
        start=start,
        where=where,
        checkpointing=checkpointing,
    )
    (steer,) = learn(model, tokenizer, examples, [name or "steer"], options)
    return _calibrated(model, tokenizer, steer, progress) if calibrate else steer


def train_jointly(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    names: Sequence[str],
    *,
    calibrate: bool = True,
    **options: Any,
) -> list[Steer]:
    """Learn several steers from texts with several labels each, in one pass and one fit.

    A text with labels (y_1, y_2, ...) is scored under the sum of the steers at these strengths, so
    styles that go along with one another are told apart as well as the texts allow.

    Args:
        model: A causal language model of transformers.
        tokenizer: The model's own.
        examples: Texts with a tuple of labels each, as many as there are names; every column
            holds two different values at least.
        names: What to call the steers, in the order of the labels.
        calibrate: As in `train`.
        **options: The other options of `train`.

    Returns:
        The steers. They share one domain part.

    Raises:
        InputError: As `train`, or labels that do not fit the names.
    """
    told = Options(**options)
    steers = learn(model, tokenizer, examples, names, told)
    if not calibrate:
        return steers
    return [_calibrated(model, tokenizer, steer, told.progress) for steer in steers]


def _calibrated(
    model: Any, tokenizer: PreTrainedTokenizerBase, steer: Steer, progress: Progress | None
) -> Steer:
    # A room above this one: training only hands its result on.
    from .calibration import calibrate

    return calibrate(model, tokenizer, steer, samples=2, progress=progress)
