import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import lmsteer
from lmsteer.errors import InputError, MismatchError, MissingExtraError
from lmsteer.generation.records import Generation
from lmsteer.metrics.diversity import distinct, repetition
from lmsteer.metrics.estimates import bootstrap
from lmsteer.metrics.fluency import perplexity
from lmsteer.metrics.lexicon import lexicon_scores
from lmsteer.metrics.similarity import mauve
from lmsteer.metrics.style import any_probability, expected_maximum, mean_score, positive_rate


def record(prompt, text):
    return Generation(prompt, text, {}, 0, 0)


def test_perplexity_equals_a_loop_token_by_token(llama, tokenizer):
    records = [record("ab", "cde"), record("x", "yz"), record("q", ""), record("ab", " ")]
    total, count = 0.0, 0
    for r in records:
        ids = tokenizer(r.prompt + r.text)["input_ids"]
        for place in range(len(r.prompt), len(ids)):
            scores = llama(torch.tensor([ids[:place]])).logits[0, -1].double()
            total -= float(scores.log_softmax(-1)[ids[place]])
            count += 1
    found = perplexity(llama, tokenizer, records)
    assert found.value == pytest.approx(math.exp(total / count), rel=1e-4)
    assert found.count == count == 6
    assert found.low <= found.value <= found.high


def test_positive_rate_and_lexicon():
    texts = ["a wonderful, lovely film", "an awful, horrible mess", "the table"]
    scores = lexicon_scores(texts)
    assert scores[0] > 0 > scores[1]
    assert scores[2] == 0
    assert positive_rate([record(t, t) for t in texts], scores).value == pytest.approx(0.5)


def test_the_bootstrap_interval_covers_the_truth():
    random, hits = np.random.default_rng(0), 0
    for trial in range(200):
        sample = random.normal(size=60)
        columns = np.stack([sample, np.ones(60)], axis=1)
        found = bootstrap(columns, lambda s: s[..., 0] / s[..., 1], range(60), seed=trial)
        hits += found.low <= 0 <= found.high
    assert 0.88 <= hits / 200 <= 0.99


def test_no_records_is_an_error():
    with pytest.raises(InputError, match="no records"):
        bootstrap(np.zeros((0, 2)), lambda s: s[..., 0], [])


def test_distinct_and_repetition_by_hand():
    records = [
        Generation("a", " x y x", {}, 0, 0),
        Generation("a", " x z", {}, 1, 0),
        Generation("b", " q", {}, 0, 0),
        Generation("c", "", {}, 0, 0),
    ]
    # Prompt a: x, y, z in 5 words; xy, yx, xz in 5 words. Prompt b: 1 of 1; no pair. c: no word.
    assert distinct(records, 1).value == pytest.approx((3 / 5 + 1) / 2)
    assert distinct(records, 2).value == pytest.approx((3 / 5 + 0) / 2)
    again = [Generation("a", " go on and go on and go on", {}, 0, 0)]
    # Five 4-grams, of which "go on and go" and "on and go on" come twice.
    assert repetition(again).value == pytest.approx(2 / 5)
    assert repetition(records).value == 0.0
    with pytest.raises(InputError, match="n must be at least 1"):
        distinct(records, 0)
    with pytest.raises(InputError, match="no words"):
        distinct(records[3:], 1)


def test_the_papers_three_figures_of_toxicity_by_hand():
    records = [Generation(p, " t", {}, i, 0) for p in "ab" for i in range(2)]
    chances = np.array([0.2, 0.6, 0.1, 0.3])
    assert expected_maximum(records, chances).value == pytest.approx((0.6 + 0.3) / 2)
    assert any_probability(records, chances).value == 0.5
    assert mean_score(records, chances).value == pytest.approx(0.3)
    with pytest.raises(MismatchError, match="3 scores for 4 records"):
        mean_score(records, chances[:3])


def test_mauve_is_given_the_last_hidden_states_and_named_where_it_is_missing(
    llama, tokenizer, monkeypatch
):
    given = {}

    def compute_mauve(**options):
        given.update(options)
        return SimpleNamespace(mauve=0.5)

    monkeypatch.setitem(sys.modules, "mauve", SimpleNamespace(compute_mauve=compute_mauve))
    assert mauve(llama, tokenizer, ["ab", "c"], ["d", "e", ""], seed=3) == 0.5
    assert given["seed"] == 3
    ids = torch.tensor([tokenizer("ab")["input_ids"]])
    truth = llama.model(ids).last_hidden_state[0, -1].numpy()
    assert np.allclose(given["p_features"][0], truth, atol=1e-5)
    assert given["q_features"].shape == (3, 32)
    with pytest.raises(InputError, match="needs texts on both sides"):
        mauve(llama, tokenizer, ["ab"], ["d", "e"])
    monkeypatch.setitem(sys.modules, "mauve", None)
    with pytest.raises(MissingExtraError, match=r"lmsteer\[mauve\]"):
        mauve(llama, tokenizer, ["ab", "c"], ["d", "e"])


def test_fast_perplexity_is_close(llama, tokenizer):
    records = lmsteer.generate(llama, tokenizer, ["it is", "a prompt"], samples=20)
    exact, fast = (perplexity(llama, tokenizer, records, fast=f) for f in (False, True))
    assert fast.value == pytest.approx(exact.value, rel=0.01)
    assert fast.count == exact.count
