"""Training at the input site."""

import pytest
import torch
from conftest import build

import lmsteer
from lmsteer.errors import InputError
from lmsteer.model.head import read_head
from lmsteer.text.batch import pad_batch
from lmsteer.text.encoding import encode
from lmsteer.training.factors import Factors
from lmsteer.training.solvers.inputs import _backward, steered_nll


def pieces(model, tokenizer, examples, *, prompt_only=False):
    encoded = encode(tokenizer, examples, max_length=64)
    P, Q = torch.randn(2, 2, 32, 4) * 0.2
    return read_head(model), encoded, Factors(P, Q, True, prompt_only)


def naive_nll(model, tokenizer, example, P, Q, *, prompt_only):
    """The text's NLL where embeddings are changed by hand and the model's own loss is taken."""
    prompt = tokenizer(example.prompt)["input_ids"] if example.prompt else []
    ids = torch.tensor([prompt + tokenizer(example.text)["input_ids"]])
    rows = model.get_input_embeddings()(ids)
    shift = example.label * (rows @ P[0]) @ Q[0].T + (rows @ P[1]) @ Q[1].T
    if prompt_only:
        shift = shift * (torch.arange(ids.shape[1]) < len(prompt))[None, :, None]
    scores = model(inputs_embeds=rows + shift).logits[0, :-1].log_softmax(-1)
    start = max(len(prompt), 1)
    return -scores.gather(1, ids[0, 1:, None])[start - 1 :, 0]


@pytest.mark.parametrize("name", ["llama-tied", "gpt2", "gptj-bias", "gemma2-softcap"])
@pytest.mark.parametrize("prompt_only", [False, True])
def test_gradients_are_those_of_the_models_own_loss(name, prompt_only, tokenizer, examples):
    model = build(name)
    if prompt_only:
        examples = [lmsteer.Example(e.text, e.label, "so: ") for e in examples]
    examples = examples[:3] + examples[-3:]
    head, encoded, factors = pieces(model, tokenizer, examples, prompt_only=prompt_only)
    if name == "gemma2-softcap":  # it scales what comes out of its table: the hook is before that
        assert steered_nll(model, head, encoded, factors) > 0
        return
    leaves = [factors.P.requires_grad_(), factors.Q.requires_grad_()]
    _backward(model, head, encoded, range(len(encoded)), factors, fast=False)
    mine = [leaf.grad.clone() for leaf in leaves]
    P, Q = (leaf.detach().clone().requires_grad_() for leaf in leaves)
    nll = torch.cat(
        [naive_nll(model, tokenizer, e, P, Q, prompt_only=prompt_only) for e in examples]
    )
    nll.mean().backward()
    assert steered_nll(model, head, encoded, factors) == pytest.approx(
        float(nll.detach().mean()), rel=1e-4
    )
    for found, wanted in zip(mine, (P.grad, Q.grad), strict=True):
        torch.testing.assert_close(found, wanted, rtol=2e-3, atol=2e-4 * float(wanted.abs().max()))


def test_prompt_only_steers_the_prompt_and_attaches_so(tokenizer, llama, examples):
    examples = [lmsteer.Example(e.text, e.label, "taste: ") for e in examples]
    steer = lmsteer.train(
        llama,
        tokenizer,
        examples,
        site="input",
        where="prompt",
        rank=4,
        steps=20,
        domain=False,
        calibrate=False,
    )
    assert steer.record["where"] == "prompt"
    ids = torch.tensor([tokenizer("taste: it is good.")["input_ids"]])
    with torch.no_grad():
        with lmsteer.attach(llama, {steer: 1.0}, where=torch.arange(ids.shape[1])[None] < 7):
            by_mask = llama(input_ids=ids).logits
        assert not torch.allclose(by_mask, llama(input_ids=ids).logits)
    encoded = encode(tokenizer, [lmsteer.Example("it is good.", 1.0, "taste: ")], max_length=64)
    batch = pad_batch(encoded, [0])
    factors = Factors(steer.P[None], steer.Q[None], False, True)
    with factors.reading(llama, batch), torch.no_grad():
        torch.testing.assert_close(llama(input_ids=ids).logits, by_mask)


def test_checkpointing_and_parts_give_the_same_steer(tokenizer, examples, monkeypatch):
    model = build("llama-untied")
    options = {"site": "input", "rank": 4, "steps": 12, "fast": False, "calibrate": False}
    plain = lmsteer.train(model, tokenizer, examples, **options)
    again = lmsteer.train(model, tokenizer, examples, checkpointing=True, **options)
    torch.testing.assert_close(plain.matrix(), again.matrix(), rtol=1e-3, atol=1e-5)
    assert not any(module.training for module in model.modules())
    monkeypatch.setattr("lmsteer.training.solvers.inputs.TOKENS_AT_ONCE", 40)
    parts = lmsteer.train(model, tokenizer, examples, **options)
    torch.testing.assert_close(plain.matrix(), parts.matrix(), rtol=1e-2, atol=1e-4)


def test_the_guard_holds_the_change_short(tokenizer, llama, examples, monkeypatch):
    monkeypatch.setattr("lmsteer.training.solvers.inputs.GUARD", 0.05)
    steer = lmsteer.train(
        llama, tokenizer, examples, site="input", steps=60, rank=4, calibrate=False
    )
    rows = llama.get_input_embeddings().weight[5:200]
    change = (rows @ steer.P) @ steer.Q.T
    assert change.norm(dim=-1).mean() <= 0.1 * rows.norm(dim=-1).mean()


def test_training_begins_at_a_steer_and_is_repeatable(tokenizer, llama, examples):
    options = {"site": "input", "rank": 4, "steps": 10, "fast": False, "calibrate": False}
    one, other = (lmsteer.train(llama, tokenizer, examples, **options) for _ in range(2))
    torch.testing.assert_close(one.matrix(), other.matrix())
    on = lmsteer.train(llama, tokenizer, examples, start=one, **{**options, "steps": 1})
    assert lmsteer.steer.interference(on, one) > 0.8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "paper"}, "solver of its own"),
        ({"where": "response"}, "where must be"),
        ({"where": "prompt"}, "has none"),
        ({"site": "output", "where": "prompt"}, 'go with site="input"'),
        ({"site": "output", "checkpointing": True}, 'go with site="input"'),
        ({"site": "middle"}, "site must be one of"),
        ({"rank": 99}, "rank must be between"),
    ],
)
def test_what_cannot_be_trained_is_told(tokenizer, llama, examples, options, message):
    with pytest.raises(InputError, match=message):
        lmsteer.train(llama, tokenizer, examples, **{"site": "input", **options})


def test_steers_of_the_input_site_add_up_and_are_kept(llama, tokenizer, tmp_path):
    a, b = (
        lmsteer.Steer(torch.randn(32, 3) * 0.2, torch.randn(32, 3) * 0.2, name, "input")
        for name in "ab"
    )
    ids = torch.tensor([tokenizer("it is good.")["input_ids"]])
    base = llama.get_input_embeddings()(ids)

    def reads(strengths):
        with lmsteer.attach(llama, strengths), torch.no_grad():
            return llama(input_ids=ids).logits

    both = base + 1.5 * base @ a.matrix() - base @ b.matrix()
    wanted = llama(inputs_embeds=both).logits
    torch.testing.assert_close(reads({a: 1.5, b: -1.0}), wanted, rtol=1e-4, atol=1e-4)
    total = lmsteer.compose({a: 1.5, b: -1.0})
    assert total.site == "input"
    torch.testing.assert_close(reads({total: 1.0}), wanted, rtol=1e-4, atol=1e-4)
    total.save(tmp_path / "total")
    kept = lmsteer.load_steer(tmp_path / "total", llama)
    assert torch.equal(reads({kept: 1.0}), reads({total: 1.0}))
    # With the output site too: each on its own rows.
    head = lmsteer.Steer(torch.randn(32, 2) * 0.2, torch.randn(32, 2) * 0.2, "head")
    with torch.no_grad():
        hidden = llama.model(inputs_embeds=base + base @ a.matrix()).last_hidden_state
        wanted = llama.lm_head(hidden + 2.0 * hidden @ head.matrix())
    torch.testing.assert_close(reads({a: 1.0, head: 2.0}), wanted, rtol=1e-4, atol=1e-4)


def test_prompts_are_read_once_for_each_strength(llama, tokenizer):
    steer = lmsteer.Steer(torch.randn(32, 3) * 0.5, torch.randn(32, 3) * 0.5, "in", "input")
    options = {"strengths": [{steer: s} for s in (-1.0, 0.0, 1.0)], "samples": 2, "seed": 3}
    shared, apart = (
        lmsteer.generate(llama, tokenizer, ["it is", "so good"], share_prompts=s, **options)
        for s in (True, False)
    )
    assert shared == apart
    alone = lmsteer.generate(
        llama, tokenizer, ["so good"], strengths={steer: 1.0}, samples=2, seed=3
    )
    assert alone == [r for r in shared if r.prompt == "so good" and r.strengths == {"in": 1.0}]
    assert len({r.text for r in shared}) > 6
