"""Sums over tokens: they add up, whoever reads which texts, and can be taken away again."""

from dataclasses import replace

import pytest
import torch

from lmsteer.errors import InputError, MismatchError
from lmsteer.model.head import read_head
from lmsteer.states.gathering import Part, gather
from lmsteer.states.hidden import read_states
from lmsteer.states.processes import Workers
from lmsteer.text.encoding import encode


@pytest.fixture
def encoded(tokenizer, examples):
    texts = [*examples, *examples[:5]]  # some texts twice
    return encode(tokenizer, texts, max_length=64)


def read(model, encoded, texts=None, **options):
    texts = range(len(encoded)) if texts is None else texts
    (found,) = gather(model, read_head(model), encoded, [Part(list(texts), 4, 2)], **options)
    return found


def assert_equal(one, two, most):
    assert (one.texts, one.tokens) == (two.texts, two.tokens)
    pairs = zip(
        (*one.tensors(), *one.expected.tensors()),
        (*two.tensors(), *two.expected.tensors()),
        strict=True,
    )
    for a, b in pairs:
        assert (a - b).norm() <= most * b.norm()
    assert torch.equal(one.sample.targets, two.sample.targets)
    assert torch.equal(one.sample.text, two.sample.text)
    assert torch.allclose(one.sample.hidden, two.sample.hidden, rtol=1e-4, atol=1e-5)


def test_sums_are_those_of_all_states(model, encoded):
    states, sums = read_states(model, encoded), read(model, encoded)
    h, w = states.hidden.double(), states.weights.double()
    z = torch.cat([torch.ones(len(h), 1), states.labels], 1).double()
    assert sums.tokens == len(states)
    assert torch.allclose(sums.weight, (z * w[:, None]).T @ z)
    assert torch.allclose(sums.rows, (z * w[:, None]).T @ h, rtol=1e-4, atol=1e-3)
    outer = (h * w[:, None] * z[:, 1:]).T @ h
    assert (sums.inner[1] - outer).norm() < 1e-5 * outer.norm()
    few = round(len(states) / 4)
    assert abs(len(sums.sample) - few) < 0.4 * few


def test_texts_read_apart_add_up_and_can_be_taken_away(model, encoded):
    numbers = list(range(len(encoded)))
    whole = read(model, encoded)
    one, two = read(model, encoded, numbers[::2]), read(model, encoded, numbers[1::2])
    assert_equal(one + two, whole, 1e-5)
    assert_equal(whole - two, one, 1e-5)
    assert_equal((whole - two) + two, whole, 1e-5)
    both = gather(
        model, read_head(model), encoded, [Part(numbers[::2], 4, 2), Part(numbers[1::2], 4, 2)]
    )
    for together, apart in zip(both, (one, two), strict=True):
        assert_equal(together, apart, 1e-5)


def test_a_copy_is_taken_away_once(llama, encoded):
    first = read(llama, encoded, [0])
    twice = read(llama, encoded, [0, 0, 3])
    assert_equal(twice - first, read(llama, encoded, [0, 3]), 1e-5)


def test_a_weight_counts_texts_as_often(llama, encoded):
    twice, doubled = read(llama, encoded, [0, 3, 0, 3]), 2 * read(llama, encoded, [0, 3])
    for a, b in zip(twice.tensors(), doubled.tensors(), strict=True):
        assert (a - b).norm() <= 1e-5 * b.norm()
    for factor in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="0 or more"):
            doubled * factor


def test_the_batches_of_several_processes_add_up(llama, encoded, monkeypatch):
    monkeypatch.setattr("lmsteer.states.hidden._TOKENS_AT_ONCE", {"cpu": 40})
    parts = []
    for rank in range(3):
        workers = Workers(rank, 3)
        monkeypatch.setattr(Workers, "add", lambda *_: None)
        monkeypatch.setattr(Workers, "collect", lambda _, item: [item])
        parts.append(read(llama, encoded, workers=workers))
    monkeypatch.undo()
    monkeypatch.setattr("lmsteer.states.hidden._TOKENS_AT_ONCE", {"cpu": 40})
    whole = read(llama, encoded)
    for number, total in enumerate(whole.tensors()):
        summed = sum(part.tensors()[number] for part in parts)
        assert torch.allclose(summed, total, rtol=1e-12)
    assert sum(len(part.sample) for part in parts) == len(whole.sample)


def test_what_does_not_go_together(llama, model, encoded):
    one, few = read(llama, encoded), read(llama, encoded, [0, 1])
    with pytest.raises(InputError, match="not among them"):
        few - one
    (other,) = gather(llama, read_head(llama), encoded, [Part([0, 1], 8, 2)])
    with pytest.raises(MismatchError, match="one token in 4.*one in 8"):
        one - other
    _ = one + other
    encoded = replace(encoded, labels=torch.cat([encoded.labels] * 2, 1))
    with pytest.raises(MismatchError, match="with 1 labels.*with 2"):
        one + read(llama, encoded)


def test_statistics_of_two_models_do_not_add(llama, encoded):
    from conftest import build

    with pytest.raises(MismatchError, match="one model"):
        read(llama, encoded) + read(build("llama-untied"), encoded)
