"""A model with a steer taken off is the model it was, bit for bit."""

import functools

import torch
from conftest import build
from hypothesis import given, settings
from hypothesis import strategies as st
from steers import factors

import lmsteer

IDS = torch.tensor([[5, 6, 7, 8], [9, 1, 3, 2]])
STRENGTHS = st.floats(-4, 4, allow_nan=False).filter(lambda strength: abs(strength) > 0.1)


@functools.cache
def model():
    return build("llama-untied")


@torch.no_grad()
def scores():
    return model()(IDS).logits


@settings(max_examples=25, deadline=None)
@given(factors(32), st.sampled_from(["output", "input"]), STRENGTHS, st.booleans())
def test_attaching_then_detaching_restores_the_model(pair, site, strength, by_row):
    steer = lmsteer.Steer(*pair, site=site)
    before, weights = scores(), {k: v.clone() for k, v in model().state_dict().items()}
    given_strength = torch.tensor([strength, 0.0]) if by_row else strength
    with lmsteer.attach(model(), {steer: given_strength}):
        steered = scores()
    assert not torch.equal(steered[0], before[0])
    assert torch.equal(steered[1], before[1]) is by_row
    assert torch.equal(scores(), before)
    after = model().state_dict()
    assert after.keys() == weights.keys()
    assert all(torch.equal(after[key], weights[key]) for key in weights)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model().modules())


@settings(max_examples=10, deadline=None)
@given(factors(32), st.sampled_from(["output", "input"]))
def test_a_model_at_strength_0_is_the_base_model(pair, site):
    before = scores()
    with lmsteer.attach(model(), {lmsteer.Steer(*pair, site=site): 0.0}):
        assert torch.equal(scores(), before)
