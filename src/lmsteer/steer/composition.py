"""Several steers as one: the sum of their maps, or the theory's product; and how they interfere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from typing import Literal, get_args

import torch

from ..errors import InputError
from .labelling import labels
from .steer import Steer

How = Literal["sum", "product"]


def compose(
    strengths: Mapping[Steer, float], *, how: How | str = "sum", name: str | None = None
) -> Steer:
    """One steer that at strength 1 does what the given ones do together.

    Args:
        strengths: The signed strength of each steer; all steers are of one site and model.
        how: How the maps are joined. ``"sum"`` is ``h + sum_i s_i h W_i``, which is what
            attaching them side by side does (the paper, section 3.4). ``"product"`` is
            ``h (I + s_1 W_1) (I + s_2 W_2) ...`` in the order given, which is what the theory
            asks for when styles are independent; it differs by terms of second order in the
            strengths. As a steer the product is fixed at these strengths: at half of its strength
            it is not the product of the halves.
        name: What to call the steer; ``"a+b"`` by default.

    Raises:
        InputError: No steer, or an unknown `how`.
        MismatchError: Steers of different sites, dims or models.
    """
    if how not in get_args(How):
        raise InputError(f'how must be "sum" or "product", was: {how!r}')
    if not strengths:
        raise InputError("no steers given to compose")
    total = reduce(Steer.__add__, (float(s) * steer for steer, s in strengths.items()))
    if how == "product":
        # h (I + P1 Q1^T)(I + P2 Q2^T): each P takes in what the maps before it make of it.
        P, start = total.P.clone(), 0
        for steer in strengths:
            part = slice(start, start + steer.rank)
            P[:, part] += P[:, :start] @ (total.Q[:, :start].T @ total.P[:, part])
            start += steer.rank
        total = replace(total, P=P)
    names = labels(strengths)
    recipe = {names[steer]: float(s) for steer, s in strengths.items()}
    joined = name or "+".join(recipe)
    return replace(total, name=joined, record={**total.record, "composed": recipe, "how": how})


def interference(one: Steer, other: Steer) -> float:
    """The cosine of two maps, in [-1, 1]: how much of the one's direction lies in the other's.

    At 0 they change rows in unrelated ways. At 1 they are the same map up to a factor, so that
    adding the one adds the other. The cosine is of the maps alone: every direction of hidden states
    counts the same.

    Args:
        one: A steer.
        other: Another steer, of the same site and dim.
    """
    product = ((one.P.T @ other.P) * (one.Q.T @ other.Q)).sum()
    norms = [((s.P.T @ s.P) * (s.Q.T @ s.Q)).sum().clamp_min(0).sqrt() for s in (one, other)]
    return float(product / torch.stack(norms).prod().clamp_min(1e-30))
