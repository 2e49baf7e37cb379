"""A merged model scores as the steered one does, before and after it is saved."""

import pytest
import torch
from families import FAMILIES
from test_families import CASES, inputs, logits, steer_for

import lmsteer
from lmsteer.errors import UnsupportedError


@pytest.mark.parametrize(("name", "tied"), CASES)
@pytest.mark.parametrize("site", ["output", "input"])
def test_merged_is_steered(name, tied, site, tmp_path):
    model = FAMILIES[name].build(tied=tied)
    steer = steer_for(model, site)
    base = logits(model)
    table = model.get_input_embeddings().weight.clone()
    with lmsteer.attach(model, {steer: 1.5}):
        truth = logits(model)
    if model.config.is_encoder_decoder:
        with pytest.raises(UnsupportedError, match="attach the steer instead"):
            lmsteer.merge(model, {steer: 1.5})
        return
    merged = lmsteer.merge(model, {steer: 1.5})
    assert torch.equal(logits(model), base)  # a copy was changed
    assert torch.allclose(logits(merged), truth, atol=2e-4 * float(truth.abs().max()))
    if site == "output":
        assert torch.equal(merged.get_input_embeddings().weight, table)
    merged.save_pretrained(tmp_path / "merged")
    again = type(merged).from_pretrained(tmp_path / "merged").eval()
    assert torch.equal(logits(again), logits(merged))
    assert inputs(again).keys() == inputs(model).keys()


def test_both_sites_in_place_and_half_precision():
    model = FAMILIES["Llama"].build(tied=True).bfloat16()
    steers = {steer_for(model, "output"): 1.0, steer_for(model, "input"): -0.5}
    with lmsteer.attach(model, steers):
        truth = logits(model).float()
    merged = lmsteer.merge(model, steers, in_place=True)
    assert merged is model
    assert (logits(merged).float() - truth).abs().max() < 0.05 * truth.abs().max()


def test_nothing_to_merge_is_the_model_itself():
    model = FAMILIES["GPT-2"].build(tied=True)
    merged = lmsteer.merge(model, {steer_for(model, "output"): 0.0})
    assert torch.equal(logits(merged), logits(model))
    assert merged.get_output_embeddings().weight is merged.get_input_embeddings().weight
