"""What a steer learned, and what it finds in texts."""

import itertools
import math

import numpy as np
import pytest
import torch
from conftest import build
from hypothesis import given, settings
from hypothesis import strategies as st

import lmsteer
from lmsteer.errors import InputError, MismatchError, UnsupportedError
from lmsteer.interpretation.html import page
from lmsteer.interpretation.spans import best_runs, evidence
from lmsteer.interpretation.subspaces import overlaps, subspace_angles
from lmsteer.interpretation.value import style_value
from lmsteer.interpretation.words import directions, word_shifts


@pytest.fixture
def styled(steer):
    domain = lmsteer.Steer(torch.randn(32, 3) * 0.2, torch.randn(32, 3) * 0.2, "style.domain")
    return lmsteer.Steer(steer.P, steer.Q, "style", domain=domain)


def naive_log_chances(model, tokenizer, text, strengths):
    """log P of every token but the first, by the model itself under `attach`."""
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    with lmsteer.attach(model, strengths), torch.no_grad():
        scores = model(input_ids=ids).logits[0, :-1].double().log_softmax(-1)
    return scores.gather(1, ids[0, 1:, None])[:, 0].numpy()


@settings(max_examples=150, deadline=None)
@given(
    values=st.lists(st.integers(-5, 5), min_size=1, max_size=8),
    count=st.integers(1, 3),
)
def test_best_runs_are_the_best_there_are(values, count):
    def worth(runs):
        return sum(abs(sum(values[a:b])) for a, b in runs)

    cuts = range(len(values) + 1)
    every = [
        list(zip(ends[::2], ends[1::2], strict=True))
        for k in range(count + 1)
        for ends in itertools.combinations_with_replacement(cuts, 2 * k)
    ]
    found = best_runs(np.array(values, dtype=float), count)
    assert len(found) <= count
    assert all(a < b for a, b in found)
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(found))
    assert worth(found) == max(map(worth, every))


@pytest.mark.parametrize("name", ["llama-tied", "gptj-bias", "gemma2-softcap", "granite-scale"])
def test_evidence_is_the_models_own_likelihood_ratio(tokenizer, styled, name):
    model = build(name)
    text = "It is good — 🙂 not   bad."
    (found,) = evidence(model, tokenizer, styled, [text], strength=0.7)
    sides = [
        naive_log_chances(model, tokenizer, text, {styled: s, styled.domain: 1.0})
        for s in (0.7, -0.7)
    ]
    np.testing.assert_allclose(
        [t.ratio for t in found.tokens], sides[0] - sides[1], rtol=1e-3, atol=2e-4
    )
    assert found.ratio == pytest.approx(sum(t.ratio for t in found.tokens))
    bare = evidence(model, tokenizer, styled, [text], strength=0.7, domain=False)[0]
    assert bare.ratio != pytest.approx(found.ratio, abs=1e-3)


def test_spans_lie_on_words_of_the_original_text(llama, tokenizer, styled):
    text = "It is good — 🙂 not   bad.\n"
    (found,) = evidence(llama, tokenizer, styled, [text], spans=2)
    assert 1 <= len(found.spans) <= 2
    for span in found.spans:
        piece = text[span.start : span.end]
        assert piece == piece.strip() or not piece.strip()
        assert span.start == 0 or not (
            text[span.start].isalnum() and text[span.start - 1].isalnum()
        )
    total = sum(abs(span.ratio) for span in found.spans)
    assert total >= max(abs(token.ratio) for token in found.tokens) - 1e-9
    drawn = page([found], "a <b>", strength=1.0)
    assert "a &lt;b&gt;" in drawn
    assert "🙂" in drawn
    assert drawn.count("<u>") >= 1


def test_empty_one_token_and_over_long_texts(llama, tokenizer, styled):
    texts = ["", "a", "so " * 100, "it is"]
    found = evidence(llama, tokenizer, styled, texts)
    assert [len(f.tokens) for f in found] == [0, 0, 63, 4]  # the context holds 64
    assert found[0].spans == []
    assert [f.text for f in found] == texts
    values = style_value(llama, tokenizer, styled, texts)
    assert [v.tokens for v in values] == [0, 0, 63, 4]
    assert (values[0].value, values[0].probability) == (0.0, 0.5)
    assert evidence(llama, tokenizer, styled, ["", "a"])[1].ratio == 0.0


def test_style_value_is_where_the_text_is_likeliest(llama, tokenizer, styled):
    text = "it is good"
    (found,) = style_value(
        llama, tokenizer, styled, [text], strengths=np.linspace(-3, 3, 13).tolist()
    )
    curve = [
        naive_log_chances(llama, tokenizer, text, {styled: s, styled.domain: 1.0}).sum()
        for s in found.strengths
    ]
    np.testing.assert_allclose(found.curve, np.array(curve) - max(curve), atol=1e-3)
    fine = np.linspace(-3, 3, 301)
    best = fine[
        np.argmax(
            [
                naive_log_chances(llama, tokenizer, text, {styled: s, styled.domain: 1.0}).sum()
                for s in fine
            ]
        )
    ]
    assert found.value == pytest.approx(best, abs=0.1)
    assert found.low <= found.value <= found.high
    odds = curve[found.strengths.index(1.0)] - curve[found.strengths.index(-1.0)]
    assert found.probability == pytest.approx(1 / (1 + math.exp(-odds)), abs=1e-3)


def test_text_of_a_style_is_told_from_its_opposite(llama, tokenizer, examples):
    steer = lmsteer.train(llama, tokenizer, examples, calibrate=False)
    values = style_value(llama, tokenizer, steer, [e.text for e in examples])
    right = [(v.probability > 0.5) == (e.label > 0) for v, e in zip(values, examples, strict=True)]
    assert np.mean(right) > 0.85


def test_word_shifts_are_the_mean_change_of_log_probability(bundled):
    steer = lmsteer.Steer(torch.randn(320, 2) * 0.05, torch.randn(320, 2) * 0.05)
    model, tokenizer = bundled
    prompts = ["The film was", "My sister and I"]
    gains, losses = word_shifts(model, tokenizer, steer, strength=2.0, prompts=prompts, count=5)
    assert len(gains) == len(losses) == 5
    assert gains[0].change >= gains[-1].change > 0 > losses[-1].change >= losses[0].change
    token = tokenizer(f" {gains[0].word}", add_special_tokens=False)["input_ids"]
    assert len(token) == 1
    changes = []
    for prompt in prompts:
        ids = torch.tensor([tokenizer(prompt)["input_ids"]])
        chances = []
        for s in (2.0, 0.0):
            with lmsteer.attach(model, {steer: s}, check=False), torch.no_grad():
                scores = model(input_ids=ids).logits[0, -1].double().log_softmax(-1)
            chances.append(float(scores[token[0]]))
        changes.append(chances[0] - chances[1])
    assert gains[0].change == pytest.approx(np.mean(changes), abs=1e-3)
    assert all(len(w.word) >= 3 and w.word.isalpha() for w in gains + losses)


def test_directions_share_the_map_and_list_words_at_both_ends(bundled):
    steer = lmsteer.Steer(torch.randn(320, 3) * 0.05, torch.randn(320, 3) * 0.05)
    found = directions(*bundled, steer, count=9, words=4)
    assert len(found) == 3
    assert sum(d.share for d in found) == pytest.approx(1)
    assert found[0].share >= found[1].share >= found[2].share
    for part in found:
        for high, low in (part.reads, part.writes):
            assert len(high) == len(low) == 4
            assert high[0][1] >= high[-1][1] > low[-1][1] >= low[0][1]


def test_angles_between_steers():
    eye = torch.eye(8)
    one = lmsteer.Steer(eye[:, :2], eye[:, :2], "one")
    other = lmsteer.Steer(eye[:, :2], eye[:, 2:4], "other")
    half = lmsteer.Steer(eye[:, :2], eye[:, 1:3], "half")
    assert subspace_angles(one, 3.0 * one) == pytest.approx([0, 0], abs=1e-3)
    assert subspace_angles(one, other) == pytest.approx([90, 90], abs=1e-3)
    assert sorted(subspace_angles(one, half)) == pytest.approx([0, 90], abs=1e-3)
    assert overlaps([one, other, half])[0].tolist() == pytest.approx([1, 0, 0.5], abs=1e-6)
    with pytest.raises(MismatchError):
        subspace_angles(one, lmsteer.Steer(eye[:4, :2], eye[:4, :2]))


def test_what_cannot_be_read_is_refused_with_a_reason(llama, tokenizer):
    at_input = lmsteer.Steer(torch.randn(32, 2), torch.randn(32, 2), site="input")
    for call in (evidence, style_value):
        with pytest.raises(UnsupportedError, match="input site"):
            call(llama, tokenizer, at_input, ["it is"])
    with pytest.raises(UnsupportedError, match="input site"):
        word_shifts(llama, tokenizer, at_input)
    output = lmsteer.Steer(torch.randn(32, 2), torch.randn(32, 2))
    with pytest.raises(InputError, match="above 0"):
        evidence(llama, tokenizer, output, ["it is"], strength=-1)
    with pytest.raises(InputError, match="at least three"):
        style_value(llama, tokenizer, output, ["it is"], strengths=[0, 1])
