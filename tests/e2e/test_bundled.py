"""The bundled model steers: measured effects, not prose."""

import time

import pytest

import lmsteer
from lmsteer.metrics.fluency import perplexity
from lmsteer.metrics.lexicon import lexicon_scores
from lmsteer.metrics.style import positive_rate
from lmsteer.model import KNOWN, whereabouts
from lmsteer.storage import shipped_steers


def test_the_demo_steer_moves_sentiment_by_a_lexicon(bundled):
    model, tokenizer = bundled
    steer = lmsteer.train(
        model, tokenizer, lmsteer.read_examples("bundled:sentiment"), calibrate=False
    )
    prompts = lmsteer.read_prompts("bundled:neutral")[:40]
    records = lmsteer.generate(
        model,
        tokenizer,
        prompts,
        strengths=[{steer: s} for s in (-3, 0, 3)],
        samples=2,
        max_new_tokens=24,
        min_new_tokens=24,
        top_p=0.9,
    )
    parts = [records[i::6] + records[i + 1 :: 6] for i in (0, 2, 4)]
    low, base, high = (positive_rate(p, lexicon_scores([r.text for r in p])).value for p in parts)
    assert low < base < high
    assert high - low > 0.3
    fluency = [perplexity(model, tokenizer, part).value for part in parts]
    assert max(fluency) < 3 * fluency[1]


def test_both_bundled_models_load_quickly_and_differ_in_their_heads():
    begun = time.perf_counter()
    big, _ = lmsteer.load_model("bundled")
    assert time.perf_counter() - begun < 5  # far below 1 s where nothing else runs
    small, tokenizer = lmsteer.load_model("bundled-small")
    tied = [
        m.get_input_embeddings().weight is m.get_output_embeddings().weight for m in (big, small)
    ]
    assert tied == [True, False]
    assert big.config.vocab_size != small.config.vocab_size
    assert big.config.hidden_size != small.config.hidden_size
    steer = lmsteer.train(
        small, tokenizer, lmsteer.read_examples("bundled:sentiment")[:60], calibrate=False
    )
    held_out = steer.record["held_out"]
    assert held_out["nll"] < held_out["nll_base"]


@pytest.mark.parametrize("name", ["bundled", "bundled-small"])
def test_shipped_steers_are_there_with_their_effect_and_range(name):
    model, _ = lmsteer.load_model(name)
    found = shipped_steers(model)
    assert set(found) >= {"sentiment", "detox", "politeness", "subjectivity", "story"}
    for (steer,) in found.values():
        assert steer.domain is not None
        assert steer.record["data"]["sha256"]
        assert [row.strength for row in steer.effect.rows] == list(range(-5, 6))
        assert steer.effect.spearman >= 0.95
        low, high = steer.calibration.safe
        assert low <= -1 < 1 <= high


def test_the_steers_of_a_real_model_are_found_without_the_model():
    found = shipped_steers("smollm2")
    assert "sentiment" in found
    assert set(found) == set(shipped_steers(KNOWN["smollm2"].hub))
    for (steer,) in found.values():
        assert (steer.dim, steer.rank) == (576, 16)
        assert steer.record["model_copy"]["packing"] == "Q4_1"  # what it was learned on
        assert "MiniLM" in steer.effect.judge
        assert steer.effect.spearman >= 0.95
        low, high = steer.calibration.safe
        assert low <= -1 < 1 <= high


@pytest.mark.parametrize("name", ["bundled", "smollm2"])
def test_a_shipped_sentiment_steer_works_straight_away(name):
    if name in KNOWN and not whereabouts(KNOWN[name]):
        pytest.skip("needs SmolLM2 (`make demo` brings it)")
    model, tokenizer = lmsteer.load_model(name)
    steer = lmsteer.load_steer("sentiment", model)
    records = lmsteer.generate(
        model,
        tokenizer,
        lmsteer.read_prompts("bundled:neutral")[:20],
        strengths=[{steer: s} for s in (-3, 3)],
        samples=4,
        max_new_tokens=20,
        top_p=0.9,
    )
    rates = [
        (lexicon_scores([r.text for r in records if r.strengths["sentiment"] == s]) > 0).mean()
        for s in (-3, 3)
    ]
    assert rates[1] - rates[0] > 0.25  # a word list sees part of it
