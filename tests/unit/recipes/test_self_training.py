import numpy as np
import pytest
import torch

import lmsteer
from lmsteer.errors import InputError
from lmsteer.metrics.linear import scorer_of
from lmsteer.research.methods import load_methods


def early(texts):
    """Above 0 where most letters are of the alphabet's first half."""
    shares = [np.mean([c < "n" for c in t.lower() if c.isalpha()] or [0.5]) for t in texts]
    return 2 * np.array(shares) - 1


OPTIONS = {"texts": 600, "max_new_tokens": 8, "calibrate": False}


def test_the_style_of_the_judge_is_learned_and_the_model_left_alone(llama, tokenizer, examples):
    before = {k: v.clone() for k, v in llama.state_dict().items()}
    stages = set()
    steer = lmsteer.recipes.self_train(
        llama,
        tokenizer,
        examples,
        judge=early,
        name="early",
        progress=lambda stage, done, total: stages.add(stage),
        **OPTIONS,
    )
    assert all(torch.equal(v, before[k]) for k, v in llama.state_dict().items())
    assert stages >= {"read", "fit", "generate"}
    assert steer.name == "early"
    told = steer.record["self_training"]
    assert (told["judge"], told["examples"]["texts"]) == ("the caller's", len(examples))
    assert 500 < told["texts"] <= 600
    assert steer.record["data"]["texts"] == told["texts"] + len(examples)
    written = {
        strength: early(
            [
                r.text
                for r in lmsteer.generate(
                    llama,
                    tokenizer,
                    "what",
                    strengths={steer: strength},
                    samples=80,
                    max_new_tokens=8,
                )
            ]
        ).mean()
        for strength in (-8.0, 0.0, 8.0)
    }
    assert written[8.0] > written[0.0] + 0.1
    assert written[-8.0] < written[0.0] - 0.1


def test_the_same_seed_gives_the_same_steer(llama, tokenizer, examples):
    one, same, other = (
        lmsteer.recipes.self_train(llama, tokenizer, examples, judge=early, seed=seed, **OPTIONS)
        for seed in (1, 1, 2)
    )
    digests = [s.record["data"]["sha256"] for s in (one, same, other)]
    assert digests[0] == digests[1] != digests[2]
    assert one.digest == same.digest


def test_a_classifier_of_examples_goes_by_the_signs(examples):
    score = scorer_of(examples)
    assert (score(["it is sweet.", "how very great."]) > 0).all()
    assert (score(["it is sour.", "how very awful."]) < 0).all()
    with pytest.raises(InputError, match="texts of both signs"):
        scorer_of([e for e in examples if e.label > 0])


def test_mistakes(llama, tokenizer, examples):
    with pytest.raises(InputError, match=r"self_train\(\) has no option 'site'"):
        lmsteer.recipes.self_train(llama, tokenizer, examples, site="input")
    with pytest.raises(InputError, match="texts must be at least 3"):
        lmsteer.recipes.self_train(llama, tokenizer, examples, texts=2)
    with pytest.raises(InputError, match="the same score"):
        lmsteer.recipes.self_train(
            llama, tokenizer, examples, judge=lambda texts: np.zeros(len(texts)), **OPTIONS
        )


def test_as_a_method_it_evens_out_sides_and_writes_within_the_nucleus(
    llama, tokenizer, examples, monkeypatch
):
    texts = examples + [lmsteer.Example(f"{e.text} {e.text}", 1.0) for e in examples] * 2
    told = []
    real = lmsteer.recipes.self_train

    def few(*given, **options):
        told.append(options)
        return real(*given, **{**options, **OPTIONS})

    monkeypatch.setattr("lmsteer.research.methods.lm_steer.self_train", few)
    method = load_methods()["lm-steer-self"].fit(llama, tokenizer, texts)
    assert told[0]["balance"] is True
    options = {"samples": 20, "max_new_tokens": 4, "top_p": 1e-6}
    records = method.generate(llama, tokenizer, ["ab"], 9.0, **options)
    # A nucleus of one token is the base model's likeliest, whatever the strength.
    base = lmsteer.generate(llama, tokenizer, "ab", max_new_tokens=4, temperature=0)
    assert {r.text for r in records} == {base[0].text}
