"""The default solver against naive formulas in float64."""

import random
from dataclasses import replace

import pytest
import torch

import lmsteer
from lmsteer.metrics.kl import divergence
from lmsteer.model.expectation import pulled_to
from lmsteer.model.head import read_head
from lmsteer.states.expectation import RIDGE, Expectation, Expected
from lmsteer.states.gathering import Part, gather
from lmsteer.states.hidden import read_states
from lmsteer.text.encoding import encode
from lmsteer.training.objective import Map, gradient
from lmsteer.training.separation import Separation
from lmsteer.training.step import Values, downhill
from lmsteer.training.unit import UNIT, root_divergence_of


@pytest.fixture
def encoded(tokenizer, examples):
    return encode(tokenizer, examples[:12], max_length=64)


@pytest.fixture
def states(model, encoded):
    return read_states(model, encoded)


def sums_of(model, encoded, every=1):
    """The statistics of all texts."""
    (sums,) = gather(model, read_head(model), encoded, [Part(range(len(encoded)), every, every)])
    return sums


def naive(head, row):
    """The probabilities of the words at a row, and the slopes of their scores, in float64."""
    scores = head.logits(row[None]).double()[0]
    slope = torch.full_like(scores, head.scale)
    if head.softcap is not None:
        slope *= 1 - (scores / head.softcap).square()
    return scores.softmax(-1), slope


def test_the_expectation_is_the_naive_regression(model, states):
    head = read_head(model)
    found = Expectation.of(Expected.of(head, states.hidden, states.weights))
    table, means, curvature = head.weight.double(), [], 0.0
    for row in states.hidden:
        p, slope = naive(head, row)
        J = table * slope[:, None]
        means.append(p @ J)
        curvature += J.T @ (torch.diag(p) - torch.outer(p, p)) @ J / len(states)
    known = torch.cat([states.hidden.double(), torch.ones(len(states), 1).double()], 1)
    moments = known.T @ known / len(known)
    penalty = torch.eye(len(moments)).double() * moments.diagonal()[:-1].mean() * RIDGE
    penalty[-1, -1] = 0
    truth = torch.linalg.solve(moments + penalty, known.T @ torch.stack(means) / len(known))
    mine = states.hidden.double() @ found.slope + found.offset
    assert (mine - known @ truth).norm() < 1e-3 * mine.norm()
    assert (found.curvature.double() - curvature).norm() < 1e-3 * curvature.norm()


def test_where_the_regression_is_exact_the_slope_is_the_gradient(model, tokenizer, examples):
    """With as many directions as tokens the regression goes through every point."""
    head, encoded = read_head(model), encode(tokenizer, examples[8:10], max_length=64)
    few, sums = read_states(model, encoded), sums_of(model, encoded)
    assert len(few) < 32
    moved = torch.randn(32, 32) * 0.05
    learned = Map(torch.stack([torch.zeros(32, 32), moved]), domain=True)
    if head.softcap is not None:  # the slope of a target's score stays that of the unmoved row
        learned.parts *= 0
    rows = learned.rows(few, torch.float32)
    exact = torch.stack(
        [(lambda p, s: (p * s) @ head.weight.double())(*naive(head, r)) for r in rows]
    )
    known = torch.cat([rows, torch.ones(len(rows), 1)], 1).double()
    found = torch.linalg.lstsq(known, exact, driver="gelsd").solution
    outlook = Expectation(found[:-1], found[-1], torch.eye(32).double())
    truth = -gradient(head, few, learned).double()
    both = Values(torch.tensor([[0.0, 1.0], [1.0, 0.0]]).double())  # the label, and 1
    mine = downhill(sums, both, outlook, learned.parts[-1].double())
    assert (mine - truth).norm() < 2e-3 * truth.norm()


def test_centred_sums_are_those_of_centred_labels(model, encoded):
    """Two styles: means of v h e, v h h and v_j v_k h h, with v = y less its mean."""
    encoded = replace(encoded, labels=torch.randn(len(encoded), 2))
    states, sums = read_states(model, encoded), sums_of(model, encoded)
    values, h = Values.centred(sums), states.hidden.double()
    v = (states.labels - states.labels.mean(0)).double()
    e = pulled_to(read_head(model), states.hidden, states.targets).double()
    inputs = (v[:, :, None] * h[:, None]).flatten(1)
    pull = torch.einsum("tk,ti,tj->kij", v, h, e) / len(h)
    outer = torch.einsum("tk,ti,tj->kij", v, h, h) / len(h)
    for mine, truth in (
        (values.pull(sums), pull),
        (values.outer(sums), outer),
        (values.rows(sums), v.T @ h / len(h)),
        (values.inner(sums), inputs.T @ inputs / len(h)),
    ):
        assert torch.allclose(mine, truth, rtol=1e-4, atol=1e-4 * float(truth.abs().max()))


def test_where_the_target_pulls(model, states):
    head = read_head(model)
    mine = pulled_to(head, states.hidden, states.targets)
    for row, target, found in zip(states.hidden, states.targets, mine, strict=True):
        truth = head.weight[target].double() * naive(head, row)[1][target]
        assert (found.double() - truth).norm() < 1e-3 * truth.norm()


def test_separation_and_divergence_are_what_the_model_does(llama, tokenizer, examples):
    """Of a small map: the NLL under flipped labels against the right ones, and the exact KL."""
    encoded = encode(tokenizer, examples, max_length=64)
    states, head = read_states(llama, encoded), read_head(llama)
    W = torch.randn(32, 32, generator=torch.Generator().manual_seed(0)) * 0.01
    judge = Separation.of(head, states, torch.zeros(1))
    nll = [
        torch.nn.functional.cross_entropy(
            head.logits(states.hidden + sign * states.labels * (states.hidden @ W)), states.targets
        )
        for sign in (-1, 1)
    ]
    steer = lmsteer.Steer.from_matrix(W)
    spread = divergence(head, states.hidden, steer, [1.0])[1.0]
    each = [divergence(head, row[None], steer, [1.0])[1.0] for row in states.hidden]
    root = sum(value**0.5 for value in each) / len(each)
    assert root_divergence_of(head, states, steer.P, steer.Q) == pytest.approx(root, rel=0.05)
    thrice = root_divergence_of(head, states, 3 * steer.P, steer.Q)
    assert thrice == pytest.approx(3 * root, rel=0.05)
    mine = judge.efficiency(W, 0)
    assert mine == pytest.approx(float(nll[0] - nll[1]) / spread**0.5, rel=0.1)
    assert judge.efficiency(5 * W, 0) == pytest.approx(mine, rel=1e-2)
    assert judge.efficiency(0 * W, 0) == 0


def test_strength_1_moves_every_model_by_the_same(model, tokenizer, examples):
    steer = lmsteer.train(model, tokenizer, examples * 2, held_out=0.3, calibrate=False)
    states = read_states(model, encode(tokenizer, examples, max_length=64))
    for strength in (1.0, -1.0):
        each = [
            divergence(read_head(model), row[None], steer, [strength])[strength]
            for row in states.hidden
        ]
        assert UNIT / 1.4 < sum(value**0.5 for value in each) / len(each) < UNIT * 1.4


def test_the_same_texts_in_any_order_give_the_same_steer(llama, tokenizer, examples):
    shuffled = list(examples * 2)
    random.Random(1).shuffle(shuffled)
    one, two = (
        lmsteer.train(llama, tokenizer, texts, calibrate=False, seed=seed)
        for seed, texts in enumerate((examples * 2, shuffled))
    )
    for a, b in ((one, two), (one.domain, two.domain)):
        assert (a.matrix() - b.matrix()).norm() <= 1e-6 * a.matrix().norm()


@pytest.mark.parametrize("count", [2, 4, 30])
def test_few_examples_do_not_blow_up(llama, tokenizer, examples, count):
    texts = [e for pair in zip(examples[:4], examples[4:8], strict=True) for e in pair] * 4
    steer = lmsteer.train(llama, tokenizer, texts[:count], calibrate=False)
    ids = torch.tensor(tokenizer("it is")["input_ids"])[None]
    base = llama(ids).logits.log_softmax(-1)
    for strength in (-1.0, 1.0):
        with lmsteer.attach(llama, {steer: strength}):
            steered = llama(ids).logits.log_softmax(-1)
        assert float((steered.exp() * (steered - base)).sum(-1).mean()) < 1.0


def test_what_the_labels_do_not_tell_is_left_to_the_domain(llama, tokenizer, examples):
    """Every text gains one word: the domain learns it, the style hardly."""
    texts = [lmsteer.Example(f"and {e.text}", e.label) for e in examples]
    texts = [e for e in texts if e.label] * 2
    steer = lmsteer.train(llama, tokenizer, texts, calibrate=False)
    ids = torch.tensor(tokenizer("and it is")["input_ids"])[None]

    def loss(mix):
        with lmsteer.attach(llama, mix):
            return float(llama(ids, labels=ids).loss)

    gained = loss({}) - loss({steer.domain: 1.0})
    assert gained > 0.1
    assert abs(loss({steer: 1.0}) - loss({steer: -1.0})) < 0.5 * gained
