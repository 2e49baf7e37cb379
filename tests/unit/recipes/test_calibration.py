import math
import warnings
from dataclasses import replace

import pytest
import torch

import lmsteer
from lmsteer.errors import InputError
from lmsteer.metrics.kl import divergence
from lmsteer.model.head import read_head
from lmsteer.states.hidden import read_states
from lmsteer.steer.calibration import (
    Calibration,
    Cost,
    StrengthWarning,
    resolve_strength,
    safe_range,
)
from lmsteer.steer.steer import Steer
from lmsteer.text.encoding import encode

PROMPTS = ["it is", "how", "this was a"]


@pytest.fixture
def calibrated(llama, tokenizer, steer):
    return lmsteer.calibrate(
        llama,
        tokenizer,
        steer,
        prompts=PROMPTS,
        samples=2,
        max_new_tokens=6,
        strengths=(-2, -1, 1, 2),
    )


def test_the_divergence_equals_a_direct_computation(model, tokenizer, steer, examples):
    encoded = encode(tokenizer, examples[:6], max_length=64)
    hidden = read_states(model, encoded).hidden
    found = divergence(read_head(model), hidden, steer, [-1.5, 0.0, 2.0])
    assert found[0.0] == 0.0
    for strength in (-1.5, 2.0):
        total = count = 0.0
        for row in encoded.ids:
            ids = torch.tensor([row])
            base = model(ids).logits[0, :-1].double().log_softmax(-1)
            with lmsteer.attach(model, {steer: strength}):
                steered = model(ids).logits[0, :-1].double().log_softmax(-1)
            total += float((steered.exp() * (steered - base)).sum())
            count += len(base)
        assert math.isclose(found[strength], total / count, rel_tol=0, abs_tol=1e-5)


def test_a_calibrated_steer_keeps_its_table(calibrated, steer, tmp_path):
    table = calibrated.calibration
    assert [row.strength for row in table.rows] == [-2, -1, 0, 1, 2]
    kl = [row.kl for row in table.rows]
    assert kl[2] == 0 < kl[1] < kl[0]
    low, high = table.safe
    assert -2 <= low <= 0 <= high <= 2
    calibrated.save(tmp_path / "s")
    assert Steer.load(tmp_path / "s").calibration == table
    assert steer.calibration is None
    assert calibrated.renamed("other").calibration == table
    # Another map has another calibration.
    assert (2.0 * calibrated).calibration is None
    assert (-calibrated).calibration is None
    assert (calibrated + calibrated).calibration is None
    assert calibrated.truncate(2)[0].calibration is None
    assert lmsteer.compose({calibrated: 1.0}).calibration is None


def test_calibrating_again_does_not_warn_of_the_old_range(llama, tokenizer, calibrated):
    narrow = replace(calibrated, calibration=replace(calibrated.calibration, safe=(-0.1, 0.1)))
    again = lmsteer.calibrate(llama, tokenizer, narrow, prompts=PROMPTS, max_new_tokens=4)
    assert len(again.calibration.rows) == 11


def row(strength, perplexity, distinct, kl=0.0):
    ends = {
        f"{name}_{end}": 0.0 for name in ("perplexity", "distinct_2") for end in ("low", "high")
    }
    return Cost(strength=strength, kl=kl, perplexity=perplexity, distinct_2=distinct, **ends)


def table_of(rows, safe):
    return Calibration(rows=tuple(rows), safe=safe, prompts=1, samples=1, tokens=1, top_p=0.9)


def test_the_safe_range_by_hand():
    rows = [row(-2, 30, 1.0), row(-1, 12, 1.0), row(0, 10, 1.0), row(1, 11, 0.95), row(2, 11, 0.85)]
    low, high = safe_range(rows)
    # Perplexity may be 15: between 12 at -1 and 30 at -2, in sixths.
    assert math.isclose(low, -1 - 3 / 18)
    # Distinct-2 may be 0.9: half way from 0.95 to 0.85.
    assert math.isclose(high, 1.5)
    assert safe_range([row(0, 10, 1), row(1, 10, 1)]) == (0.0, 1.0)


def test_strengths_in_words(steer):
    rows = [
        row(-2, 1, 1, 0.16),
        row(-1, 1, 1, 0.04),
        row(0, 1, 1),
        row(1, 1, 1, 0.01),
        row(2, 1, 1, 0.04),
    ]
    known = replace(steer, calibration=table_of(rows, (-1.5, 1.0)))
    wanted = {
        "2": 2.0,
        "-0.5": -0.5,
        "+auto": 1.0,
        "auto": 1.0,
        "-auto": -1.5,
        "80%": 0.8,
        "-50%": -0.75,
        "kl:0.0225": 1.5,  # the root of the divergence is linear in the strength
        "-kl:0.01": -0.5,
    }
    for word, number in wanted.items():
        assert math.isclose(resolve_strength(known, word), number), word
    assert resolve_strength(known, 7) == 7.0
    for word, message in (
        ("lots", "a strength is a number"),
        ("x%", "expected a number"),
        ("kl:-1", "expected a number"),
        ("kl:9", "the furthest, 2, is 0.04"),
    ):
        with pytest.raises(InputError, match=message):
            resolve_strength(known, word)
    with pytest.raises(InputError, match=r"not: give a number, or calibrate it first"):
        resolve_strength(steer, "+auto")


def test_words_and_warnings_where_a_strength_is_taken(llama, tokenizer, calibrated):
    low, high = calibrated.calibration.safe
    ids = torch.tensor([[5, 6, 7]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with lmsteer.attach(llama, {calibrated: "+auto"}):
            by_word = llama(ids).logits
        with lmsteer.attach(llama, {calibrated: high}):
            assert torch.equal(llama(ids).logits, by_word)
    with pytest.warns(StrengthWarning, match="past its safe range"):
        lmsteer.attach(llama, {calibrated: high + 1}).detach()
    with pytest.warns(StrengthWarning, match="past its safe range"):
        lmsteer.attach(llama, {calibrated: torch.tensor([0.0, low - 1])}).detach()
    record = lmsteer.generate(
        llama, tokenizer, "it is", strengths={calibrated: "-50%"}, max_new_tokens=2
    )[0]
    assert math.isclose(record.strengths["style"], low / 2)


def test_training_calibrates_unless_told_not_to(llama, tokenizer, examples):
    steer = lmsteer.train(llama, tokenizer, examples, steps=3)
    assert [row.strength for row in steer.calibration.rows] == [-5, -3, -1, 0, 1, 3, 5]
    plain = lmsteer.train(llama, tokenizer, examples, steps=3, calibrate=False)
    assert plain.calibration is None


def test_mistakes(llama, tokenizer, steer):
    with pytest.raises(InputError, match="besides 0"):
        lmsteer.calibrate(llama, tokenizer, steer, strengths=[0])
    with pytest.raises(InputError, match="must hold strength 0; no row"):
        table_of([row(1, 10, 1)], (0, 1))
    with pytest.raises(InputError, match=r"must hold strength 0, was: \(1, 2\)"):
        table_of([row(0, 10, 1)], (1, 2))


def test_at_the_input_site_divergence_is_the_models_own(llama, tokenizer, steer):
    from lmsteer.metrics.kl import text_divergence
    from lmsteer.text.encoding import encode

    at_input = Steer(steer.P, steer.Q, site="input")
    text = "it is good"
    encoded = encode(tokenizer, [lmsteer.Example(text, 1.0)], max_length=64)
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    sides = []
    for strength in (0.0, 0.5):
        with lmsteer.attach(llama, {at_input: strength}), torch.no_grad():
            sides.append(llama(input_ids=ids).logits[0, :-1].double().log_softmax(-1))
    wanted = (sides[1].exp() * (sides[1] - sides[0])).sum(-1).mean()
    found = text_divergence(llama, encoded, at_input, [0.0, 0.5])
    assert found == pytest.approx({0.0: 0.0, 0.5: float(wanted)}, rel=1e-3)
    table = lmsteer.calibrate(
        llama, tokenizer, at_input, prompts=["it is"], samples=2, max_new_tokens=4, strengths=[1]
    ).calibration
    assert [row.strength for row in table.rows] == [0.0, 1.0]
