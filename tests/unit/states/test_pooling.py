import pytest
import torch
from transformers import BertConfig, BertModel

from lmsteer.errors import InputError
from lmsteer.states import Pooling, read_pooled

TEXTS = ["it is good", "b", "how very bad this was, all of it", ""]


def naive(model, ids, begin, end, pooling):
    """One text at a time, in float64 after the model."""
    with torch.no_grad():
        states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states
    rows = [states[layer + 1][0].double() for layer in pooling.layers]
    means = [row[begin:end].mean(0) for row in rows]
    lasts = [row[-1] for row in rows]
    return torch.cat([part for p in pooling.pools for part in (means if p == "mean" else lasts)])


def test_pooled_states_are_those_of_each_text_alone(model, tokenizer):
    pooling = Pooling((0,), ("mean", "last"), before="Q: ", after=" So")
    found = read_pooled(model, tokenizer, TEXTS, pooling)
    for text, row in zip(TEXTS, found, strict=True):
        lead, own, cue = (tokenizer(t)["input_ids"] for t in ("Q: ", text, " So"))
        own = own or [tokenizer.eos_token_id]
        ids = [*lead, *own, *cue]
        wanted = naive(model, ids, len(lead), len(lead) + len(own), pooling)
        assert torch.allclose(row.double(), wanted, atol=1e-5)


def test_several_layers_stand_side_by_side(llama, tokenizer):
    both = read_pooled(llama, tokenizer, TEXTS, Pooling((1, 0), ("last",)))
    apart = [read_pooled(llama, tokenizer, TEXTS, Pooling((n,), ("last",))) for n in (1, 0)]
    assert torch.allclose(both, torch.cat(apart, 1))


def test_an_encoder_pools_its_marks_too(tokenizer):
    shapes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    model = BertModel(BertConfig(**shapes, num_attention_heads=2, vocab_size=259)).eval()
    pooling = Pooling((1,), ("mean",), after="!")
    found = read_pooled(model, tokenizer, TEXTS, pooling)
    for text, row in zip(TEXTS, found, strict=True):
        ids = tokenizer(text + "!")["input_ids"]
        assert torch.allclose(row.double(), naive(model, ids, 0, len(ids), pooling), atol=1e-5)


def test_long_texts_are_cut_before_the_cue(llama, tokenizer):
    pooling = Pooling((0,), ("last",), after=" So")
    long = read_pooled(llama, tokenizer, ["x" * 500, "x" * 61], pooling)  # a context of 64
    assert torch.allclose(long[0], long[1], atol=1e-6)


def test_progress_and_no_texts(llama, tokenizer):
    told = []
    read_pooled(llama, tokenizer, TEXTS, Pooling((0,)), progress=lambda *a: told.append(a))
    assert told[-1] == ("read", 4, 4)
    assert read_pooled(llama, tokenizer, [], Pooling((0,))).shape == (0, 0)


def test_poolings_that_say_nothing_are_refused():
    for layers, pools in (((), ("mean",)), ((0,), ()), ((0,), ("max",))):
        with pytest.raises(InputError, match="pools among mean, last"):
            Pooling(layers, pools)
