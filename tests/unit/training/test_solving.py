"""From sums to steers: those of texts that were added and taken away, and what is refused."""

import time

import pytest
import torch

import lmsteer
from lmsteer.errors import InputError, MismatchError
from lmsteer.model.head import read_head
from lmsteer.states.hidden import read_states
from lmsteer.text.encoding import encode
from lmsteer.training import read_statistics, solve


@pytest.fixture
def texts(examples):
    return [e for e in examples * 2 if e.label]


def read(model, tokenizer, texts, **options):
    return read_statistics(model, tokenizer, texts, fast=False, sampled=8, **options)


def test_a_step_is_the_naive_one_in_float64(llama, tokenizer, texts):
    """S^-1 G C^-1, damped: every sum over tokens one by one, b by its regression."""
    encoded = encode(tokenizer, texts, max_length=64)
    states, head = read_states(llama, encoded), read_head(llama)
    sums = read_statistics(llama, tokenizer, texts, fast=False, sampled=8)
    table, h = head.weight.double(), states.hidden.double()
    known = sums.expected.moments / sums.expected.weight
    known.diagonal()[:-1] += known.diagonal()[:-1].mean() * 0.01
    B = torch.linalg.solve(known, sums.expected.crossed / sums.expected.weight)
    S = sums.expected.spread / sums.expected.weight
    v = (states.labels[:, 0] - states.labels.mean()).double()
    G, C = torch.zeros(32, 32).double(), torch.zeros(32, 32).double()
    for row, target, value in zip(h, states.targets, v, strict=True):
        b = torch.cat([row, torch.ones(1).double()]) @ B
        G += value * torch.outer(row, table[target] - b) / len(h)
        C += value**2 * torch.outer(row, row) / len(h)
    a, U = torch.linalg.eigh(C)
    s, V = torch.linalg.eigh(S)
    ridge = 2.0
    damped = (U.T @ G @ V) / (a[:, None] * s + ridge * a.mean() * s.mean())
    truth = U @ damped @ V.T
    mine = solve(sums, llama, ridge=ridge, rank=32, fast=False).matrix().double()
    assert (mine / mine.norm() - truth / truth.norm()).norm() < 1e-4


def test_what_was_taken_away_was_never_there(model, tokenizer, texts):
    kept, gone = texts[:20], texts[20:]
    whole = read(model, tokenizer, texts)
    left = solve(whole - read(model, tokenizer, gone), model, ridge=3.0, rank=32, fast=False)
    again = solve(read(model, tokenizer, kept), model, ridge=3.0, rank=32, fast=False)
    # Not 0: rows of a float32 model differ by 1e-6 between batches of other texts.
    assert (left.matrix() - again.matrix()).norm() < 3e-5 * again.matrix().norm()


def test_several_statistics_choose_the_ridge_for_each_other(llama, tokenizer, texts):
    parts = [read(llama, tokenizer, texts[k::4]) for k in range(4)]
    steer = solve(parts, llama, name="kind")
    assert steer.name == "kind"
    assert steer.rank == 16
    whole = solve(
        parts[0] + parts[1] + parts[2] + parts[3],
        llama,
        ridge=steer.record["course"]["ridge"],
        rank=steer.rank,
    )
    assert torch.allclose(whole.matrix(), steer.matrix(), atol=1e-6)


def test_it_moves_text_as_a_trained_steer_does(llama, tokenizer, texts, tmp_path):
    steer = solve(read(llama, tokenizer, texts), llama)
    trained = lmsteer.train(llama, tokenizer, texts, calibrate=False, domain=False)
    both = (steer.matrix().flatten(), trained.matrix().flatten())
    assert float(torch.nn.functional.cosine_similarity(*both, dim=0)) > 0.7
    steer.save(tmp_path / "solved")
    again = lmsteer.load_steer(str(tmp_path / "solved"), llama)
    assert torch.equal(again.matrix(), steer.matrix())
    assert again.record == steer.record


def test_new_weights_forget_old_texts(llama, tokenizer, texts):
    old, new = read(llama, tokenizer, texts[:8]), read(llama, tokenizer, texts[8:])
    forgotten = solve(1e-6 * old + new, llama, ridge=3.0, fast=False)
    fresh = solve(new, llama, ridge=3.0, fast=False)
    assert (forgotten.matrix() - fresh.matrix()).norm() < 0.2 * fresh.matrix().norm()


def test_an_interrupted_reading_goes_on(llama, tokenizer, texts, tmp_path, monkeypatch):
    from lmsteer.states import hidden

    monkeypatch.setattr("lmsteer.states.hidden._TOKENS_AT_ONCE", {"cpu": 40})
    whole = read(llama, tokenizer, texts)
    calls, rows = [], hidden._target_rows

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return rows(*args)

    monkeypatch.setattr(hidden, "_target_rows", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read(llama, tokenizer, texts, folder=tmp_path / "work")
    again = read(llama, tokenizer, texts, folder=tmp_path / "work", resume=True)
    for a, b in zip(whole.tensors(), again.tensors(), strict=True):
        assert torch.equal(a, b)


def test_what_cannot_be_solved(llama, model, tokenizer, texts):
    sums = read(llama, tokenizer, texts)
    good = read(llama, tokenizer, [e for e in texts if e.label > 0])
    with pytest.raises(InputError, match="the label 1"):
        solve(good, llama)
    with pytest.raises(InputError, match="too few"):
        solve(sums - sums, llama)
    with pytest.raises(InputError, match="no statistics"):
        solve([], llama)
    for option, value in (("ridge", 0.0), ("ridge", float("nan")), ("rank", 0), ("rank", 33)):
        with pytest.raises(InputError, match=option):
            solve(sums, llama, **{option: value})
    several = [lmsteer.Example(e.text, (e.label, -e.label)) for e in texts]
    with pytest.raises(InputError, match="2 labels"):
        solve(read(llama, tokenizer, several), llama)
    with pytest.raises(InputError, match="at least one text"):
        read(llama, tokenizer, [])
    with pytest.raises(InputError, match="multiple of 8"):
        read_statistics(llama, tokenizer, texts, sampled=9)


def test_another_model_is_refused(llama, tokenizer, texts):
    from conftest import build

    with pytest.raises(MismatchError, match="another model"):
        solve(read(llama, tokenizer, texts), build("llama-untied"))


def test_solving_again_takes_no_pass(bundled):
    model, tokenizer = bundled
    sums = read_statistics(model, tokenizer, lmsteer.read_examples("bundled:sentiment"))
    solve(sums, model)
    begun = time.perf_counter()
    solve(sums, model, ridge=1.0)
    assert time.perf_counter() - begun < 5.0  # half a second on a quiet machine
