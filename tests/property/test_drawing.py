"""Drawing without sorting the vocabulary is drawing after sorting it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmsteer.errors import InputError
from lmsteer.generation import drawing
from lmsteer.generation.sampling import Pick


def naive(ranked, chance, drawn, top_p):
    """The definition, with everything sorted, in float64."""
    found = []
    for order, weights, u in zip(ranked.numpy(), chance.numpy(), drawn.tolist(), strict=True):
        places = np.lexsort((-np.arange(len(order)), -order))
        reached = order[places].astype(np.float64).cumsum()
        before = np.concatenate([[0.0], reached[:-1]])
        nucleus = places[before < top_p] if top_p < 1 else places
        share = weights[nucleus].astype(np.float64).cumsum()
        passed = np.flatnonzero(share > (u * share[-1] if top_p < 1 else u))
        full = np.flatnonzero(share == share[-1])
        found.append(int(nucleus[min([*passed, *full])]))
    return found


def hostile(kind, vocab, generator):
    """Scores of a row on which a draw may go wrong."""
    scores = torch.randn(vocab, generator=generator)
    if kind == "flat":
        return torch.zeros(vocab)
    if kind == "one":
        scores[:] = -torch.inf
        scores[vocab // 2] = 3.0
    if kind == "few allowed":
        scores[torch.rand(vocab, generator=generator) < 0.9] = -torch.inf
        scores[0] = 0.0
    if kind == "ties":
        scores = (scores * 2).round()
    if kind == "sharp":
        scores *= 8
    if kind == "two heights":
        scores = torch.where(scores > 0, 0.0, -12.0)
    return scores


KINDS = ["flat", "one", "few allowed", "ties", "sharp", "two heights", "plain"]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from(KINDS), min_size=1, max_size=6),
    st.integers(2, 3000),
    st.sampled_from([1.0, 0.999, 0.9, 0.5, 0.05]),
    st.integers(0, 2**32),
    st.booleans(),
    st.sampled_from([1 << 22, 5000, 1]),
)
def test_the_token_is_the_one_that_sorting_everything_gives(
    kinds, vocab, top_p, seed, other, at_once
):
    generator = torch.Generator().manual_seed(seed)
    chance = torch.stack([hostile(kind, vocab, generator) for kind in kinds]).softmax(-1)
    ranked = chance
    if other:  # the nucleus of another model
        ranked = torch.randn(chance.shape, generator=generator).softmax(-1)
    drawn = torch.rand(len(kinds), generator=generator)
    drawn[seed % len(kinds)] = [0.0, 1 - 2.0**-24, 0.5][seed % 3]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "_AT_ONCE", at_once)
        found = drawing.draw(ranked, chance, drawn, top_p)
    assert found.tolist() == naive(ranked, chance, drawn, top_p)
    assert (chance.gather(-1, found[:, None]) > 0).all() or other


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 5), st.sampled_from([0.25, 0.5, 0.75, 1.0]), st.integers(0, 2**32))
def test_on_an_accelerator_too(rows, top_p, seed):
    """Probabilities that sum exactly in float32, no two alike, so that nothing is rounding."""
    generator = torch.Generator().manual_seed(seed)
    parts = torch.stack([torch.randperm(1000, generator=generator) for _ in range(rows)]) + 1.0
    chance = torch.cat([parts, (2**19 - parts.sum(-1, keepdim=True))], -1) / 2**19
    drawn = torch.rand(rows, generator=generator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "_FIRST", 3)
        patch.setattr(drawing, "_NEXT", 40)
        found = drawing._draw_by_topk(chance, chance, drawn, top_p)
    assert found.tolist() == naive(chance, chance, drawn, top_p)


def test_a_large_vocabulary_is_drawn_from_as_sorted():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(4, 262_144, generator=generator) * 2
    scores[1] = 0.0
    scores[2, 5] = 30.0
    chance, drawn = scores.softmax(-1), torch.tensor([0.999, 0.7, 0.5, 0.01])
    for top_p in (0.9, 1.0):
        found = drawing.draw(chance, chance, drawn, top_p).tolist()
        assert found == naive(chance, chance, drawn, top_p)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_scores_that_are_no_numbers_are_refused(value):
    scores = torch.zeros(2, 50)
    scores[1] = value
    with pytest.raises(InputError, match="are NaN, or all of them -inf"):
        Pick(torch.rand(2, 1), 1.0, 0.9)(torch.empty(0), scores)


def test_tables_are_written_anew_and_scores_are_left():
    pick = Pick(torch.full((3, 4), 0.5), 0.7, 0.9)
    for step in range(4):
        scores = torch.randn(3, 700, generator=torch.Generator().manual_seed(step))
        before = scores.clone()
        left = pick(torch.empty(0), scores)
        assert torch.equal(scores, before)
        assert (left == 0).sum(-1).tolist() == [1, 1, 1]
        assert (left == -torch.inf).sum(-1).tolist() == [699] * 3
        chance = (before / 0.7).softmax(-1)
        assert left.argmax(-1).tolist() == naive(chance, chance, pick.drawn[:, step], 0.9)
