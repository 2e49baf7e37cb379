import pytest
import torch
from families import FAMILIES
from transformers import BertConfig, BertModel

from lmsteer.errors import InputError, UnsupportedError
from lmsteer.model import layers_of, read_layers

IDS = torch.arange(1, 13).view(2, 6)


def bert():
    shapes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3}
    return BertModel(BertConfig(**shapes, num_attention_heads=2, vocab_size=259)).eval()


def hooks_of(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_layers_are_what_transformers_says(model):
    with torch.no_grad():
        found = read_layers(model, [0, 0], input_ids=IDS)
        assert hooks_of(model) == 0
        told = model(IDS, output_hidden_states=True).hidden_states
    assert torch.equal(found[0], told[1])
    assert torch.equal(found[1], told[1])


def test_layers_of_an_encoder_in_the_order_asked_for():
    model = bert()
    with torch.no_grad():
        told = model(IDS, output_hidden_states=True).hidden_states
        found = read_layers(model, [2, 0], input_ids=IDS)
    assert torch.equal(found[0], told[3])
    assert torch.equal(found[1], told[1])


def test_layers_above_do_not_run(llama):
    ran = []
    for number, layer in enumerate(layers_of(llama)):
        layer.register_forward_hook(lambda *_, number=number: ran.append(number))
    with torch.no_grad():
        read_layers(llama, [0], input_ids=IDS)
    assert ran == [0]


def test_layers_that_are_not_there(llama):
    for layers in ([], [2], [-1]):
        with pytest.raises(InputError, match="has the layers 0 to 1, asked for"):
            read_layers(llama, layers, input_ids=IDS)
    with pytest.raises(UnsupportedError, match="no single list"):
        layers_of(FAMILIES["T5"].build())


def test_a_pass_that_fails_leaves_no_hook(llama):
    with pytest.raises(IndexError):
        read_layers(llama, [1], input_ids=torch.tensor([[999]]))
    assert hooks_of(llama) == 0
