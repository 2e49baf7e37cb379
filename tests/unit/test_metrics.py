import math

import numpy as np
import pytest
import torch

from lmsteer.errors import InputError
from lmsteer.generation import Generation
from lmsteer.metrics import bootstrap, lexicon_scores, perplexity, positive_rate


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
