import random

import pytest
import torch

import lmsteer
from lmsteer.model.head import read_head
from lmsteer.states.hidden import read_states
from lmsteer.text.encoding import encode
from lmsteer.training.curvature import Directions, curvature_of, inputs_of


@pytest.fixture
def states(model, tokenizer, examples):
    return read_states(model, encode(tokenizer, examples[:12], max_length=64))


def test_the_curvature_equals_the_naive_formula_in_float64(model, states):
    head = read_head(model)
    found = curvature_of(head, states, domain=True)
    x = inputs_of(states, domain=True).double()
    A = x.T @ x / len(x)
    B = torch.zeros(32, 32, dtype=torch.float64)
    table = head.weight.double()
    for row in states.hidden:
        scores = head.logits(row[None]).double()[0]
        p = scores.softmax(-1)
        slope = torch.full_like(p, head.scale)
        if head.softcap is not None:
            slope *= 1 - (scores / head.softcap).square()
        J = table * slope[:, None]
        B += J.T @ (torch.diag(p) - torch.outer(p, p)) @ J / len(states)
    for matrix, vectors, values in (
        (A, found.left, found.left_values),
        (B, found.right, found.right_values),
    ):
        mine = (vectors.double() * values.double()) @ vectors.double().T
        assert (mine - matrix).norm() < 1e-4 * matrix.norm()
    gradient = torch.randn(64, 32)
    step = found.damped_inverse(0.3)(gradient.view(2, 32, 32)).flatten(0, 1).double()
    back = A @ step @ B + 0.3 * found.mean * step
    assert (back - gradient.double()).norm() < 1e-2 * gradient.norm()


def test_the_gauss_newton_step_is_newtons_on_one_token(llama, tokenizer):
    """With one token the Kronecker product is the Hessian itself: autograd agrees."""
    states = read_states(llama, encode(tokenizer, [lmsteer.Example("ab", 1.0)], max_length=9))
    head = read_head(llama)

    def loss(matrix):
        rows = states.hidden + states.hidden @ matrix
        return torch.nn.functional.cross_entropy(head.logits(rows), states.targets)

    direction = torch.randn(32, 32)
    _, product = torch.autograd.functional.hvp(loss, torch.zeros(32, 32), direction)
    found = curvature_of(head, states, domain=False)
    A = (found.left * found.left_values) @ found.left.T
    B = (found.right * found.right_values) @ found.right.T
    assert (A @ direction @ B - product).norm() < 1e-3 * product.norm()


def test_directions_lose_less_of_the_quadratic_loss_than_singular_values_do(
    llama, tokenizer, examples
):
    states = read_states(llama, encode(tokenizer, examples * 2, max_length=64))
    learned = lmsteer.train(
        llama, tokenizer, examples * 2, domain=False, rank=32, calibrate=False, solver="convex"
    ).matrix()
    curvature = curvature_of(read_head(llama), states, domain=False)
    split = Directions.of(learned, curvature, 0)
    P, Q = split.factors(32)
    assert (P @ Q.T - learned).norm() < 1e-3 * learned.norm()
    rows, columns = curvature.block(0)
    for rank in (1, 2, 4, 8):
        P, Q = split.factors(rank)
        plain = lmsteer.Steer.from_matrix(learned, rank).matrix()
        mine, theirs = (float((rows @ (learned - W) @ columns).norm()) for W in (P @ Q.T, plain))
        assert mine < theirs


def test_the_same_texts_in_any_order_give_the_same_steer(llama, tokenizer, examples):
    shuffled = list(examples * 2)
    random.Random(1).shuffle(shuffled)
    one, two = (
        lmsteer.train(llama, tokenizer, texts, calibrate=False, seed=seed, solver="convex")
        for seed, texts in enumerate((examples * 2, shuffled))
    )
    for a, b in ((one, two), (one.domain, two.domain)):
        assert (a.matrix() - b.matrix()).norm() <= 1e-6 * a.matrix().norm()
    assert one.record["data"]["sha256"] == two.record["data"]["sha256"]


def test_it_beats_adam_on_held_out_text_or_comes_close(model, tokenizer, examples):
    texts = [*examples, *(lmsteer.Example(f"and {e.text}", e.label) for e in examples)]
    convex, adam = (
        lmsteer.train(model, tokenizer, texts, solver=solver, calibrate=False, held_out=0.2)
        for solver in ("convex", "cached")
    )
    assert convex.record["held_out"]["nll"] < adam.record["held_out"]["nll"] + 0.1
    assert convex.record["held_out"]["nll"] < convex.record["held_out"]["nll_base"] - 0.3
    assert convex.record["course"]["ridge"] in convex.record["course"]["ridges_tried"]
    assert convex.record["rank"]["kept"] <= convex.record["rank"]["of"] == 32


@pytest.mark.parametrize("count", [2, 4, 30])
def test_few_examples_do_not_blow_up(llama, tokenizer, examples, count):
    texts = [e for pair in zip(examples[:4], examples[4:8], strict=True) for e in pair] * 4
    steer = lmsteer.train(llama, tokenizer, texts[:count], calibrate=False, solver="convex")
    ids = torch.tensor(tokenizer("it is")["input_ids"])[None]
    base = llama(ids).logits.log_softmax(-1)
    for strength in (-1.0, 1.0):
        with lmsteer.attach(llama, {steer: strength}):
            steered = llama(ids).logits.log_softmax(-1)
        assert float((steered.exp() * (steered - base)).sum(-1).mean()) < 3.0


def test_rank_is_what_was_asked_for(llama, tokenizer, examples):
    steer = lmsteer.train(llama, tokenizer, examples, rank=3, calibrate=False, solver="convex")
    assert (steer.rank, steer.domain.rank) == (3, 3)
    assert steer.record["rank"]["kept"] == 3
    assert 0 < steer.record["rank"]["relative_error"] < 1
