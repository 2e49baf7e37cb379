"""Input-Steer: the map on the input embeddings, by gradients through the frozen trunk.

A text with labels y_1, y_2, ... is read as ``x + y_1 x W_1 + y_2 x W_2 + ... + x D`` and scored by
the model's own head: the objective of the output site, on another side of the trunk. It is not
convex, and every step runs the trunk forwards and backwards.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..model import (
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
from ..states import Progress
from ..steer import Steer
from ..text import Batch, Encoded, batch_texts, mixed_batches, pad_batch
from .checkpointing import checkpointed
from .factors import Factors, first_factors
from .objective import row_slopes

STEPS_A_PASS = 2  # passes over the texts, by default
FEWEST_STEPS = 100
BATCH = 32
RATE = 5e-3
GUARD = 0.5
"""Longest change of an embedding at strength 1, as a share of the embedding, on average."""
EVALUATIONS, PATIENCE = 8, 3
TOKENS_AT_ONCE = 4096
JUDGED_ON = 4096


def fit_inputs(
    model: nn.Module,
    head: Head,
    encoded: Encoded,
    kept: Sequence[int],
    held_out: Sequence[int],
    *,
    rank: int | None,
    domain: bool,
    prompt_only: bool,
    steps: int | None,
    seed: int,
    fast: bool,
    checkpointing: bool,
    start: Steer | None,
    progress: Progress | None,
) -> tuple[Factors, dict[str, Any]]:
    """Minimise the NLL by Adam through the trunk; the best on held-out texts is kept.

    Args:
        model: Frozen; left as it came.
        head: Of the model, float32.
        encoded: All texts.
        kept: Numbers of those to learn from.
        held_out: Numbers of those to stop by; none: the last step is taken.
        rank: Columns of P and Q, 32 by default.
        domain: Learn the domain part too.
        prompt_only: Steer the prompts alone; the loss is on the texts after them, as always.
        steps: Of at most 32 texts; by default two passes, 100 at least.
        seed: Of the first P and of the order of the texts.
        fast: Run the trunk in bf16 where the hardware has products of it.
        checkpointing: Keep no activations inside the layers: less memory, a third more time.
        start: A steer to begin at.
        progress: Called as ``progress("fit", step, total)``.

    Returns:
        The factors, and the course: ``[seconds, step, held-out NLL]``.
    """
    began = time.perf_counter()
    device = input_device(model)
    dim = input_dim(model)
    parts = encoded.labels.shape[1] + domain
    factors = first_factors(dim, parts, rank, domain, prompt_only, seed, start, device)
    leaves = [factors.P.requires_grad_(), factors.Q.requires_grad_()]
    total = steps or max(FEWEST_STEPS, round(STEPS_A_PASS * len(kept) / BATCH))
    optimiser = torch.optim.Adam(leaves, lr=RATE, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, (step + 1) / 10) * (1 - step / total)
    )
    batches = _batches(encoded, kept, seed)
    few = _few(encoded, held_out)
    best, best_nll, since = factors.copy(), float("inf"), 0
    course: list[list[float]] = []
    done = 0
    with evaluating(model), frozen(model), checkpointed(model, checkpointing):
        for done in range(1, total + 1):
            optimiser.zero_grad()
            rows = _backward(model, head, encoded, next(batches), factors, fast=fast)
            optimiser.step()
            schedule.step()
            factors.keep_short(rows, GUARD)
            if progress:
                progress("fit", done, total)
            if few and (done % max(1, total // EVALUATIONS) == 0 or done == total):
                nll = steered_nll(model, head, encoded.only(few), factors, fast=fast)
                course.append([round(time.perf_counter() - began, 3), done, nll])
                since = 0 if nll < best_nll else since + 1
                if nll < best_nll:
                    best, best_nll = factors.copy(), nll
                if since == PATIENCE:
                    break
    learned = best if few else factors.copy()
    return learned, {"steps": done, "held_out_nll": course, "guard": GUARD}


@torch.no_grad()
def steered_nll(
    model: nn.Module, head: Head, encoded: Encoded, factors: Factors | None, *, fast: bool = False
) -> float:
    """Weighted mean NLL in nats a token, each text read at its own labels; None: as it is."""
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
    """Add the gradient of these texts' mean NLL; returns the embeddings that were read.

    In parts of so many tokens. The head's own gradient has a closed form, so that autograd holds
    the trunk alone.
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
    """Rows that predict targets, the targets, and what each counts."""
    is_target = batch.is_target[:, 1:]
    weights = encoded.token_weights[batch.text][:, None].expand(is_target.shape)[is_target]
    rows = hidden[:, :-1][is_target.to(hidden.device)]
    return rows, batch.input_ids[:, 1:][is_target].to(rows.device), weights.to(rows.device)


def _batches(encoded: Encoded, kept: Sequence[int], seed: int) -> Iterator[list[int]]:
    """Texts of about one length together, in random order, for ever."""
    shuffler = random.Random(seed)
    while True:
        yield from mixed_batches(encoded, kept, BATCH, shuffler)


def _few(encoded: Encoded, texts: Sequence[int]) -> list[int]:
    """Texts of about so many tokens, to stop by."""
    counts = encoded.target_counts.tolist()
    found, tokens = [], 0
    for text in texts:
        if tokens >= JUDGED_ON:
            break
        found.append(text)
        tokens += counts[text]
    return found
