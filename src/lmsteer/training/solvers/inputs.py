"""Input-Steer: the map on the input embeddings, by gradients through the frozen trunk.

A text with labels y_1, y_2, ... is read as ``x + y_1 x W_1 + y_2 x W_2 + ... + x D`` and scored by
the model's own head. The objective is that of the output site, but it is not convex here, and every
step runs the trunk forwards and backwards.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...errors import InputError, UnsupportedError
from ...model import (
    Head,
    autocast,
    evaluating,
    frozen,
    input_device,
    input_dim,
    input_tables,
    read_hidden,
    token_nll,
)
from ...text import Batch, Encoded, batch_texts, endless_batches, pad_batch
from ..checkpointing import checkpointed
from ..descent import by_gradient, descend, warmed_up
from ..factors import Factors, first_factors
from ..objective import row_slopes
from .problem import Fitted, Problem

PASSES = 2  # over the texts, by default
FEWEST_STEPS = 100
BATCH = 32
RATE = 5e-3
GUARD = 0.5
"""The longest change of an embedding at strength 1, as a share of its length, on average."""
EVALUATIONS, PATIENCE, WARM_UP = 8, 3, 10
TOKENS_AT_ONCE = 4096
JUDGED_ON = 4096


def fit_inputs(problem: Problem) -> Fitted:
    """Minimise the NLL by Adam through the trunk; the best state on held-out texts is kept.

    Raises:
        InputError: The prompts are to be steered, and a text has none.
        UnsupportedError: The prompts of an encoder-decoder model are to be steered.
    """
    model, head, encoded, options = problem.model, problem.head, problem.encoded, problem.options
    prompt_only = options["where"] == "prompt"
    if prompt_only:
        _check_prompts(encoded)
    factors = first_factors(
        input_dim(model),
        problem.parts,
        options["rank"],
        options["domain"],
        prompt_only,
        options["seed"],
        options["start"],
        input_device(model),
    )
    leaves = [factors.P.requires_grad_(), factors.Q.requires_grad_()]
    total = options["steps"] or max(FEWEST_STEPS, round(PASSES * len(problem.kept) / BATCH))
    optimiser = torch.optim.Adam(leaves, lr=RATE, betas=(0.9, 0.98))
    batches = endless_batches(encoded, problem.kept, BATCH, options["seed"])
    read: list[Tensor] = []

    def slope(step: int) -> None:
        rows = _backward(model, head, encoded, next(batches), factors, fast=options["fast"])
        read[:] = [rows]

    adam = by_gradient(optimiser, slope, warmed_up(optimiser, total, WARM_UP))

    def move(step: int) -> None:
        adam(step)
        factors.keep_short(read[0], GUARD)

    judges = encoded.only(_few(encoded, problem.tested)) if problem.tested else None
    with evaluating(model), frozen(model), checkpointed(model, options["checkpointing"]):
        went = descend(
            leaves,
            move,
            total,
            judge=None
            if judges is None
            else lambda: steered_nll(model, head, judges, factors, fast=options["fast"]),
            every=max(1, total // EVALUATIONS),
            patience=PATIENCE,
            started=time.perf_counter(),
            progress=options["progress"],
        )
    learned = factors.copy()
    nll = None
    if problem.tested:
        texts = encoded.only(problem.tested)
        before, after = (steered_nll(model, head, texts, which) for which in (None, learned))
        nll = (before, after, int(texts.target_counts.sum()))
    course = {"steps": went.steps, "held_out_nll": went.course, "guard": GUARD}
    return Fitted(
        list(zip(learned.P, learned.Q, strict=True)),
        {"solver": "gradient", "course": course},
        [{} for _ in learned.P],
        nll,
    )


def _check_prompts(encoded: Encoded) -> None:
    """Raise unless every text has a prompt that can be steered alone."""
    if min(encoded.starts.tolist()) < 2:
        raise InputError(
            'where="prompt" steers the prompts, and at least one example has none: give '
            "Example(text, label, prompt), or --prompt-column"
        )
    if encoded.encoder_inputs is not None:
        raise UnsupportedError(
            'where="prompt" is for causal models: of an encoder-decoder model it is not known '
            "which of its tables is reading"
        )


@torch.no_grad()
def steered_nll(
    model: nn.Module, head: Head, encoded: Encoded, factors: Factors | None, *, fast: bool = False
) -> float:
    """The weighted mean NLL in nats per token, each text at its labels; None: unsteered."""
    total = weight = 0.0
    device = input_device(model)
    for texts in batch_texts(encoded, TOKENS_AT_ONCE):
        batch = pad_batch(encoded, texts)
        reading = contextlib.nullcontext() if factors is None else factors.reading(model, batch)
        with evaluating(model), reading, autocast(device, fast):
            hidden = read_hidden(model, **batch.inputs(device)).float()
        rows, targets, weights = _targets(hidden, batch, encoded)
        total += float((token_nll(head, rows, targets) * weights).sum())
        weight += float(weights.sum())
    return total / weight


def _backward(
    model: nn.Module,
    head: Head,
    encoded: Encoded,
    texts: Sequence[int],
    factors: Factors,
    *,
    fast: bool,
) -> Float[Tensor, "tokens dim"]:
    """Add the gradient of these texts' mean NLL; return some of the embeddings that were read.

    The texts are read in parts of `TOKENS_AT_ONCE` tokens. The head's gradient has a closed form,
    so autograd needs memory for the trunk alone.
    """
    device = input_device(model)
    chosen = encoded.only(texts)
    mass = float((chosen.token_weights * chosen.target_counts).sum())
    read: list[Tensor] = []
    for part in batch_texts(chosen, TOKENS_AT_ONCE):
        batch = pad_batch(chosen, part)
        with factors.reading(model, batch), autocast(device, fast):
            hidden = read_hidden(model, **batch.inputs(device))
        rows, targets, weights = _targets(hidden, batch, chosen)
        work = head.fast() if fast else head
        slopes = row_slopes(work, rows.detach().to(work.weight.dtype), targets)
        slopes = slopes * (weights / mass)[:, None].to(slopes)
        rows.backward(slopes.to(rows))
        read.append(batch.input_ids[batch.attention_mask.bool()])
    table = input_tables(model)[0]
    with torch.no_grad():
        sample: Tensor = table(torch.cat(read)[:1024].to(device)).float()
    return sample


def _targets(hidden: Tensor, batch: Batch, encoded: Encoded) -> tuple[Tensor, Tensor, Tensor]:
    """The rows that predict targets, the targets, and the weight of each."""
    is_target = batch.is_target[:, 1:]
    weights = encoded.token_weights[batch.text][:, None].expand(is_target.shape)[is_target]
    rows = hidden[:, :-1][is_target.to(hidden.device)]
    return rows, batch.input_ids[:, 1:][is_target].to(rows.device), weights.to(rows.device)


def _few(encoded: Encoded, texts: Sequence[int]) -> list[int]:
    """The first texts, of about `JUDGED_ON` tokens in all, that decide when to stop."""
    counts = encoded.target_counts.tolist()
    found, tokens = [], 0
    for text in texts:
        if tokens >= JUDGED_ON:
            break
        found.append(text)
        tokens += counts[text]
    return found
