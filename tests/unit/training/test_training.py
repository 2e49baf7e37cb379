import pytest
import torch

import lmsteer
from lmsteer.errors import InputError
from lmsteer.model.head import read_head, token_nll
from lmsteer.states.hidden import read_states
from lmsteer.text.encoding import encode
from lmsteer.training.objective import Map, gradient


def states_of(model, tokenizer, examples):
    return read_states(model, encode(tokenizer, examples, max_length=64))


def test_states_and_loss_equal_a_loop_over_single_texts(model, tokenizer, examples):
    states = states_of(model, tokenizer, examples)
    nll = token_nll(read_head(model), states.hidden, states.targets)
    for number, example in enumerate(examples[:6]):
        ids = torch.tensor(tokenizer(example.text)["input_ids"])[None]
        logits = model(ids).logits[0, :-1].double()
        truth = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
        assert torch.allclose(nll[states.text == number].double(), truth, atol=1e-3)


def test_the_gradient_in_closed_form_is_autograds(model, tokenizer, examples):
    states, head = states_of(model, tokenizer, examples), read_head(model)
    learned = Map(torch.randn(2, 32, 32) * 0.05, domain=True)
    slope = gradient(head, states, learned)
    style, domain = (m.clone().requires_grad_() for m in learned.parts)
    rows = states.hidden + (states.hidden * states.labels) @ style
    logits = head.logits(rows + states.hidden @ domain)
    torch.nn.functional.cross_entropy(logits, states.targets).backward()
    for mine, theirs in zip(slope, (style.grad, domain.grad), strict=True):
        assert (mine - theirs).norm() < 1e-3 * theirs.norm()


@pytest.mark.parametrize("solver", ["newton", "convex", "cached", "paper"])
def test_training_lowers_the_held_out_loss_and_separates_labels(model, tokenizer, examples, solver):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    random_state = torch.get_rng_state()
    steer = lmsteer.train(
        model,
        tokenizer,
        examples * 2,
        solver=solver,
        steps=60,
        name="taste",
        held_out=0.2,
        calibrate=False,
    )
    held_out = steer.record["held_out"]
    assert held_out["nll"] < held_out["nll_base"] - 0.05
    assert steer.record["data"]["texts"] == 80
    assert steer.domain is not None
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)

    def loss(text, strength):
        ids = torch.tensor(tokenizer(text)["input_ids"])[None]
        with lmsteer.attach(model, {steer: strength, steer.domain: 1.0}):
            return float(model(ids, labels=ids).loss)

    assert loss("it is great.", 1) < loss("it is great.", -1)
    assert loss("it is awful.", 1) > loss("it is awful.", -1)


def test_rank_is_kept_for_both_parts(llama, tokenizer, examples):
    steer = lmsteer.train(
        llama, tokenizer, examples, rank=3, steps=5, solver="cached", calibrate=False
    )
    assert (steer.rank, steer.domain.rank) == (3, 3)
    assert steer.record["rank"]["of"] == 32
    plain = lmsteer.train(llama, tokenizer, examples, domain=False, steps=5, calibrate=False)
    assert plain.domain is None


def test_few_examples_train_without_a_held_out_slice(llama, tokenizer, examples):
    steer = lmsteer.train(llama, tokenizer, examples[3:5] + examples[6:8], calibrate=False)
    assert "held_out" not in steer.record
    assert torch.isfinite(steer.matrix()).all()


def test_mistakes(llama, tokenizer, examples):
    with pytest.raises(InputError, match="no examples"):
        lmsteer.train(llama, tokenizer, [])
    with pytest.raises(InputError, match="have the label 1"):
        lmsteer.train(llama, tokenizer, [e for e in examples if e.label == 1])
    with pytest.raises(InputError, match="solver must be one of"):
        lmsteer.train(llama, tokenizer, examples, solver="magic")
    with pytest.raises(InputError, match="rank must be between 1 and 32"):
        lmsteer.train(llama, tokenizer, examples, rank=99)


def test_one_token_texts_are_counted(llama, tokenizer, examples):
    steer = lmsteer.train(
        llama, tokenizer, [*examples, lmsteer.Example("x", 1)], steps=2, calibrate=False
    )
    assert steer.record["data"]["skipped"] == 1
