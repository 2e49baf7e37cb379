"""The hook against the naive float64 formula, and the undo, for each kind of head."""

import copy

import pytest
import torch

import lmsteer
from lmsteer.errors import InputError, MismatchError
from lmsteer.model.head import read_head
from lmsteer.model.reading import read_hidden

IDS = torch.arange(5, 25).view(2, 10)


def naive(model, hidden, change):
    """Scores of the model's own head, in float64, on rows changed by the formula."""
    head = copy.deepcopy(model).double()
    module = head.get_output_embeddings()
    scores = module(hidden.double() + change.double())
    cap = getattr(model.config, "final_logit_softcapping", None)
    scores = scores / getattr(model.config, "logits_scaling", 1.0)
    return scores if cap is None else cap * torch.tanh(scores / cap)


def test_hook_equals_the_formula(model, steer):
    hidden = read_hidden(model, input_ids=IDS)
    change = 1.7 * hidden.double() @ steer.matrix().double()
    truth = naive(model, hidden, change)
    with lmsteer.attach(model, {steer: 1.7}):
        found = model(IDS).logits
    floor = (model(IDS).logits - naive(model, hidden, torch.zeros_like(hidden))).abs().max()
    assert (found - truth).abs().max() <= floor + 1e-4 * truth.abs().max()
    assert (found - model(IDS).logits).abs().max() > 0.01


def test_rows_have_their_own_strengths(model, steer):
    other = lmsteer.Steer(torch.randn(32, 3) * 0.2, torch.randn(32, 3) * 0.2, "other")
    with lmsteer.attach(model, {steer: torch.tensor([2.0, 0.0]), other: -1.0}):
        mixed = model(IDS).logits
    for row, strength in enumerate((2.0, 0.0)):
        with lmsteer.attach(model, {steer: strength, other: -1.0}):
            alone = model(IDS[row : row + 1]).logits
        assert torch.allclose(mixed[row], alone[0], atol=1e-3)


def test_zero_and_detach_are_bitwise_the_base(model, steer):
    before = model(IDS).logits
    state = {k: v.clone() for k, v in model.state_dict().items()}
    for zero in (0.0, torch.zeros(2)):
        with lmsteer.attach(model, {steer: zero}):
            assert torch.equal(model(IDS).logits, before)
    with pytest.raises(RuntimeError, match="inside"), lmsteer.attach(model, {steer: 3.0}):
        raise RuntimeError("inside")
    assert torch.equal(model(IDS).logits, before)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert not model.get_output_embeddings()._forward_pre_hooks


def test_nested_attachments_add_and_unwind_in_any_order(llama, steer):
    with lmsteer.attach(llama, {steer: 3.0}):
        whole = llama(IDS).logits
    first = lmsteer.attach(llama, {steer: 1.0})
    second = lmsteer.attach(llama, {steer: 2.0})
    assert torch.allclose(llama(IDS).logits, whole, atol=1e-4)
    first.detach()
    with lmsteer.attach(llama, {}):
        found = llama(IDS).logits
    second.detach()
    second.detach()
    with lmsteer.attach(llama, {steer: 2.0}):
        assert torch.allclose(llama(IDS).logits, found, atol=1e-5)


def test_input_site_changes_the_embeddings_alone(model):
    steer = lmsteer.Steer(torch.randn(32, 4) * 0.2, torch.randn(32, 4) * 0.2, "in", "input")
    before = model(IDS).logits
    if model.config.model_type != "gemma2":  # Gemma scales what it is given as inputs_embeds
        rows = model.get_input_embeddings()(IDS)
        truth = model(inputs_embeds=rows + 0.8 * rows @ steer.matrix()).logits
        with lmsteer.attach(model, {steer: 0.8}):
            assert torch.allclose(model(IDS).logits, truth, atol=1e-3)
    with lmsteer.attach(model, {steer: 0.8}):
        assert not torch.allclose(model(IDS).logits, before, atol=1e-3)
    assert torch.equal(model(IDS).logits, before)


def test_where_parts_prompt_from_response(llama, steer):
    base = llama(IDS).logits
    with lmsteer.attach(llama, {steer: 2.0}):
        full = llama(IDS).logits
    with lmsteer.attach(llama, {steer: 2.0}, where="response"):
        response = llama(IDS).logits
    with lmsteer.attach(llama, {steer: 2.0}, where="prompt"):
        prompt = llama(IDS).logits
    mask = torch.zeros(2, 10, dtype=torch.bool)
    mask[:, 3] = True
    with lmsteer.attach(llama, {steer: 2.0}, where=mask):
        masked = llama(IDS).logits
    assert torch.equal(response[:, :-1], base[:, :-1])
    assert torch.allclose(response[:, -1], full[:, -1])
    assert torch.allclose(prompt[:, :-1], full[:, :-1])
    assert torch.equal(prompt[:, -1], base[:, -1])
    assert torch.allclose(masked[:, 3], full[:, 3])
    assert torch.equal(masked[:, 4:], base[:, 4:])


def test_rows_that_do_not_match_are_an_error_that_names_both(llama, steer):
    with (
        lmsteer.attach(llama, {steer: torch.ones(3)}),
        pytest.raises(MismatchError, match="3 rows x expand=1 = 3, but the batch has 2"),
    ):
        llama(IDS)
    with lmsteer.attach(llama, {steer: torch.ones(1)}, expand=2):
        llama(IDS)


def test_a_steer_of_another_model_is_refused(llama, steer):
    narrow = lmsteer.Steer(torch.ones(16, 1), torch.ones(16, 1), "narrow")
    with pytest.raises(MismatchError, match="dim 16.*dim 32"):
        lmsteer.attach(llama, {narrow: 1.0})
    with pytest.raises(InputError, match="finite"):
        lmsteer.attach(llama, {steer: float("nan")})


def test_the_head_read_for_training_is_the_models_own(model):
    hidden = read_hidden(model, input_ids=IDS)
    assert torch.allclose(read_head(model).logits(hidden), model(IDS).logits, atol=1e-3)
