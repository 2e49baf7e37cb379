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
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..attachment import changed_inputs, read_hidden
from ..batches import Batch, batch_texts, mixed_batches, pad_batch
from ..encoding import Encoded
from ..head import Head, input_device, input_tables
from ..hidden import Progress, autocast
from ..steer import Steer
from .objective import row_slopes, token_nll

RANK = 32
STEPS_A_PASS = 2  # passes over the texts, by default
FEWEST_STEPS = 100
BATCH = 32
RATE = 5e-3
GUARD = 0.5
"""Longest change of an embedding at strength 1, as a share of the embedding, on average."""
EVALUATIONS, PATIENCE = 8, 3
TOKENS_AT_ONCE = 4096
JUDGED_ON = 4096


@dataclass(eq=False)
class Factors:
    """The factors being learned: those of the styles, then the domain's if there is one.

    Args:
        P: ``(parts, dim, rank)``.
        Q: ``(parts, dim, rank)``.
        domain: Whether the last part is the domain, always at strength 1.
        prompt_only: Change the prompts alone.
    """

    P: Float[Tensor, "parts dim rank"]
    Q: Float[Tensor, "parts dim rank"]
    domain: bool
    prompt_only: bool

    def strengths(self, batch: Batch) -> Float[Tensor, "rows parts"]:
        """Of each part on each row."""
        values = batch.labels.to(self.P.device)
        if self.domain:
            values = torch.cat([values, torch.ones_like(values[:, :1])], dim=1)
        return values

    def reading(self, model: nn.Module, batch: Batch) -> contextlib.AbstractContextManager[None]:
        """Within the block, the model reads this batch steered, each text at its own labels."""
        values = self.strengths(batch)
        mask: Tensor | None = None
        if self.prompt_only:
            # Targets are what comes after the prompt; pads follow them.
            mask = (batch.is_target.cumsum(1) == 0)[..., None]

        def change(rows: Tensor) -> Tensor:
            shift = torch.zeros_like(rows)
            for P, Q, value in zip(self.P, self.Q, values.T, strict=True):
                part = (rows @ P.to(rows)) @ Q.T.to(rows)
                shift = shift + value.to(rows)[:, None, None] * part
            if mask is not None:
                shift = shift * mask.to(rows)
            return rows + shift

        return changed_inputs(model, change)

    @torch.no_grad()
    def keep_short(self, rows: Float[Tensor, "rows dim"], guard: float) -> None:
        """Scale a part down whose change is longer than `guard` times the rows, on average."""
        length = rows.norm(dim=-1).mean()
        for P, Q in zip(self.P, self.Q, strict=True):
            ratio = float(((rows @ P) @ Q.T).norm(dim=-1).mean() / length.clamp_min(1e-30))
            if ratio > guard:
                Q.mul_(guard / ratio)

    def copy(self) -> Factors:
        """One that later steps do not touch."""
        P, Q = self.P.detach().clone(), self.Q.detach().clone()
        return Factors(P, Q, self.domain, self.prompt_only)


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
    dim = input_tables(model)[0].embedding_dim
    parts = encoded.labels.shape[1] + domain
    factors = _first(dim, parts, rank, domain, prompt_only, seed, start, device)
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
    was_training = model.training
    model.eval()
    try:
        with _checkpointed(model, checkpointing):
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
    finally:
        model.train(was_training)
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
        with reading, autocast(device, fast):
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


def _first(
    dim: int,
    parts: int,
    rank: int | None,
    domain: bool,
    prompt_only: bool,
    seed: int,
    start: Steer | None,
    device: torch.device,
) -> Factors:
    """P at random and Q at zero: the base model; or the steer to begin at."""
    width = rank or (RANK if start is None else start.rank)
    width = min(width, dim)
    generator = torch.Generator().manual_seed(seed)
    P = torch.randn(parts, dim, width, generator=generator) / dim**0.5
    Q = torch.zeros(parts, dim, width)
    known = [] if start is None else [(0, start), (parts - 1, start.domain)]
    for place, steer in known:
        if steer is not None and (place == 0 or domain):
            cut = steer if steer.rank <= width else steer.truncate(width)[0]
            P[place, :, : cut.rank], Q[place, :, : cut.rank] = cut.P, cut.Q
    return Factors(P.to(device), Q.to(device), domain, prompt_only)


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


@contextlib.contextmanager
def _checkpointed(model: Any, wanted: bool) -> Iterator[None]:
    """Layers that forget their activations and compute them again."""
    if not wanted:
        yield
        return
    # transformers 5 has another name for it.
    new = hasattr(model, "activation_checkpointing_enable")
    prefix = "activation" if new else "gradient"
    getattr(model, f"{prefix}_checkpointing_enable")({"use_reentrant": False})
    # Layers look at their own flag alone: modules inside them stay in eval mode, and the dropout
    # that some layers (BART's) do themselves is put to 0.
    layers = [m for m in model.modules() if getattr(m, "gradient_checkpointing", False)]
    own = ("dropout", "activation_dropout", "layerdrop")
    kept = [
        (layer, name, value)
        for layer in layers
        for name in own
        if isinstance(value := getattr(layer, name, None), float)
    ]
    for layer, name, _ in kept:
        setattr(layer, name, 0.0)
    for layer in layers:
        layer.training = True
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False
        for layer, name, value in kept:
            setattr(layer, name, value)
        getattr(model, f"{prefix}_checkpointing_disable")()
