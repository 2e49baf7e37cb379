"""The official recipe (github.com/Glaciohound/LM-Steer), as the reference and the baseline.

As in the official code: epsilon_0, rank 1000 whatever the dimension is, the initial values, Adam
and its rate, 1,000 steps of 32 random texts padded to the longest, the penalty on both factors, the
trunk recomputed at every step, the dummy steer at strength 1. Corrected: pads are not in the loss,
and the model's own head runs (with its bias, scale and soft-cap).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ...model import Head, evaluating, input_device, read_hidden
from ...states import Progress, States, read_states
from ...text import Encoded, pad_batch
from ..descent import by_gradient, descend
from ..objective import Map, mean_nll
from .problem import Fitted, Problem, choose_judges
from .ranks import finish


@dataclass(frozen=True)
class Recipe:
    """The official numbers for sentiment (README of the official code)."""

    epsilon: float = 1e-3
    rank: int = 1000
    init_std: float = 1e-2
    lr: float = 1e-2
    steps: int = 1000
    batch: int = 32
    penalty: float = 1e-6
    max_length: int = 256
    evaluate_every: int = 50


RECIPE = Recipe()


def fit_paper(problem: Problem) -> Fitted:
    """Learn by the official recipe, always in float32."""
    options, head = problem.options, problem.head
    held_out = None
    if problem.tested:
        held_out = read_states(problem.model, problem.encoded.only(problem.tested))
    learned, course = follow(
        problem.model,
        head,
        problem.encoded,
        problem.kept,
        choose_judges(held_out),
        domain=options["domain"],
        steps=options["steps"],
        seed=options["seed"],
        progress=options["progress"],
    )
    whole = finish(problem, learned, head, held_out, course)
    return replace(whole, record={**whole.record, "fast": False})


def follow(
    model: nn.Module,
    head: Head,
    encoded: Encoded,
    kept: Sequence[int],
    held_out: States | None,
    *,
    domain: bool,
    steps: int | None,
    seed: int,
    progress: Progress | None,
    recipe: Recipe = RECIPE,
    shuffle: bool = True,
) -> tuple[Map, dict[str, Any]]:
    """Follow the official recipe; without `shuffle`, on the texts in the order they are given in.

    Returns:
        The map in our units (epsilon_0 is multiplied in, so strength 1 is the paper's
        1 epsilon_0), and the course: ``[seconds of training alone, step, held-out NLL]``.
    """
    total = steps or recipe.steps
    device = head.weight.device
    dim, parts = head.weight.shape[1], encoded.labels.shape[1] + domain
    generator = torch.Generator().manual_seed(seed)
    factors = [
        (torch.randn(parts, dim, recipe.rank, generator=generator) * recipe.init_std).to(device)
        for _ in range(2)
    ]
    first, second = (factor.requires_grad_() for factor in factors)
    optimiser = torch.optim.Adam([first, second], lr=recipe.lr)
    texts = _batches(kept, recipe.batch, seed, shuffle)

    def slope(step: int) -> None:
        _loss(model, head, encoded, next(texts), first, second, recipe).backward()

    def judge() -> float:
        assert held_out is not None
        return mean_nll(head, held_out, _map(first, second, recipe, domain))

    with evaluating(model):
        went = descend(
            [first, second],
            by_gradient(optimiser, slope),
            total,
            judge=None if held_out is None else judge,
            every=recipe.evaluate_every,
            keep_best=False,
            progress=progress,
        )
    course = {"steps": went.steps, "held_out_nll": went.course}
    return _map(first, second, recipe, domain), course


def _loss(
    model: nn.Module,
    head: Head,
    encoded: Encoded,
    texts: Sequence[int],
    first: Tensor,
    second: Tensor,
    recipe: Recipe,
) -> Tensor:
    device, source = first.device, input_device(model)
    batch = pad_batch(encoded, texts)
    with torch.no_grad():
        hidden = read_hidden(model, **batch.inputs(source)).float()
    values = torch.ones(len(texts), len(first), device=device)
    values[:, : batch.labels.shape[1]] = batch.labels.to(device)
    change = (hidden[:, None] @ first[None]) * values[:, :, None, None]
    change = (change @ second.transpose(1, 2)[None]).sum(1)
    logits = head.logits(hidden + recipe.epsilon * change)
    is_target = batch.is_target[:, 1:].to(device)
    nll = nn.functional.cross_entropy(
        logits[:, :-1][is_target], batch.input_ids[:, 1:].to(device)[is_target], reduction="none"
    )
    weights = encoded.token_weights[batch.text].to(device)[:, None].expand(is_target.shape)
    weights = weights[is_target]
    penalty = first.square().sum() + second.square().sum()
    return (nll * weights).sum() / weights.sum() + recipe.penalty * penalty


def _map(first: Tensor, second: Tensor, recipe: Recipe, domain: bool) -> Map:
    return Map(recipe.epsilon * (first.detach() @ second.detach().transpose(1, 2)), domain)


def _batches(kept: Sequence[int], size: int, seed: int, shuffle: bool) -> Iterator[list[int]]:
    shuffler = random.Random(seed)
    while True:
        order = list(kept)
        if shuffle:
            shuffler.shuffle(order)
        for start in range(0, len(order), size):
            yield order[start : start + size]
