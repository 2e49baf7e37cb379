"""Methods side by side."""

import json
import mmap
import time

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import lmsteer
from lmsteer.errors import InputError, MismatchError
from lmsteer.metrics.estimates import Estimate
from lmsteer.metrics.sentences import acceptability, text_losses, text_perplexity
from lmsteer.research.comparison.comparing import compare
from lmsteer.research.comparison.cost import used
from lmsteer.research.comparison.curves import Point, best_within
from lmsteer.research.comparison.report import Goal, points, write_report
from lmsteer.research.comparison.settings import Settings
from lmsteer.research.methods import load_methods

METHODS = load_methods()

SETTINGS = Settings(
    samples=2,
    tokens=4,
    neutral=["it was here.", "there it is"],
    sentences=(["ab", "ba"], [True, False]),
)
NAMES = ["lm-steer", "lm-steer-nucleus", "swb", "best-of"]


def longer(texts):
    return np.array([len(t.split()) - 1.5 for t in texts])


def exact(value, spread=0.1):
    return Estimate(value, 10, value - spread, value + spread)


def test_the_best_within_a_cost_lies_on_the_curve():
    curve = [Point(exact(0.3), 1.0), Point(exact(0.6), 1.2), Point(exact(0.9), 1.8)]
    assert best_within(curve, 1.1).value == pytest.approx(
        0.3 + 0.3 * np.log(1.1) / np.log(1.2), rel=1e-9
    )
    assert best_within(curve, 1.2).value == 0.6
    found = best_within(curve, 1.5)
    share = np.log(1.5 / 1.2) / np.log(1.8 / 1.2)
    assert found.value == pytest.approx(0.6 + 0.3 * share)
    assert found.low == pytest.approx(found.value - 0.1)
    assert best_within(curve, 9.0).value == 0.9
    # A strength that costs less and does more counts; one past the ratio that does less does not.
    curve = [Point(exact(0.3), 1.0), Point(exact(0.5), 0.9), Point(exact(0.2), 3.0)]
    assert best_within(curve, 1.0).value == 0.5


def test_methods_are_measured_and_what_is_done_is_kept(llama, tokenizer, examples, tmp_path):
    before = {k: v.clone() for k, v in llama.state_dict().items()}
    told = []
    options = {
        "scorers": {"long": longer},
        "settings": SETTINGS,
        "folder": tmp_path,
    }
    given = (examples, ["it is", "a prompt"])
    rows = compare(llama, tokenizer, NAMES, *given, **options, done=told.append)
    assert [r.name for r in rows] == [r.name for r in told] == NAMES
    assert all(torch.equal(v, before[k]) for k, v in llama.state_dict().items())
    for row in rows:
        sizes = METHODS[row.name].strengths
        assert set(row.figures) == {f"{sign * s:+g}" for s in sizes for sign in (1, -1)}
        assert row.base["long"].count == 4
        assert row.base == rows[0].base
        # Given text can be scored under what acts on the next token's scores alone.
        readable = METHODS[row.name].readable
        assert all(("neutral" in f) == readable for f in row.figures.values())
    # The likelihood of positive texts is what a steer learns: given text costs another loss.
    steer = rows[0].figures
    assert steer["+2"]["neutral"].value != rows[0].base["neutral"].value
    path = tmp_path / "swb.json"
    path.write_text(path.read_text().replace('"seconds": ', '"seconds": 1e6, "was": '))
    with pytest.raises(TypeError):
        compare(llama, tokenizer, NAMES, *given, **options)
    content = json.loads((tmp_path / "lm-steer.json").read_text())
    content["row"]["seconds"] = 12345.0
    (tmp_path / "lm-steer.json").write_text(json.dumps(content))
    path.unlink()
    again = compare(llama, tokenizer, NAMES, *given, **options)
    assert again[0].seconds == 12345.0  # read, not measured
    assert again[1].figures == rows[1].figures  # measured anew, the same numbers
    with pytest.raises(InputError, match="other examples, prompts or settings"):
        compare(llama, tokenizer, NAMES, examples, ["another"], **options)
    goals = {"long": Goal(1, "long", False), "short": Goal(-1, "long", True)}
    write_report(tmp_path / "out", "Methods", rows, goals, {"model": "tiny"})
    text = (tmp_path / "out/comparison.md").read_text()
    assert "best 1 - long" in text
    assert text.count("| best-of |") == 2 + 2 * len(METHODS["best-of"].strengths)
    found = json.loads((tmp_path / "out/comparison.json").read_text())
    curve = points(rows[1], goals["short"])
    assert found["reached"]["short"]["swb"]["2"]["value"] == best_within(curve, 2).value
    assert curve[0].style.value == 1 - rows[1].base["long"].value
    assert curve[0].style.low == 1 - rows[1].base["long"].high


def test_dexperts_takes_the_models_that_dapt_learned(llama, tokenizer, examples):
    rows = compare(
        llama,
        tokenizer,
        ["dapt", "dexperts"],
        examples,
        ["it is"],
        {"long": longer},
        signs=[1],
        settings=Settings(samples=1, tokens=2),
    )
    assert rows[1].seconds == rows[0].seconds > 0
    assert rows[1].parameters == 2 * rows[0].parameters


def test_a_ready_steer_stands_beside_them(llama, tokenizer, examples, tmp_path):
    steer = lmsteer.train(llama, tokenizer, examples, rank=2, steps=2, calibrate=False)
    steer.save(tmp_path / "taste")
    name = str(tmp_path / "taste")
    (row,) = compare(
        llama,
        tokenizer,
        [name],
        [],
        ["it is"],
        {"long": longer},
        signs=[1],
        settings=Settings(samples=1, tokens=2),
        folder=tmp_path / "kept",
    )
    assert (row.name, row.parameters, row.seconds) == (name, 2 * 32 * 2, 0.0)
    kept = f"steer-taste-output-{lmsteer.Steer.load(name).digest[:12]}.json"
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [kept]
    with pytest.raises(InputError, match="expected one of lm-steer"):
        compare(llama, tokenizer, ["lorra"], examples, ["it is"], {"long": longer})


def test_memory_and_time_are_those_of_the_block():
    with used(torch.device("cpu")) as cost:
        # Pages of its own: an allocator may have room left from the tests before this one.
        held = mmap.mmap(-1, 64 * 2**20)
        torch.frombuffer(held, dtype=torch.uint8).fill_(1)
        time.sleep(0.2)
    assert 0.2 < cost.seconds < 5
    assert cost.mebibytes is None or 50 < cost.mebibytes < 200


def test_given_text_is_scored_as_the_model_stands(llama, tokenizer, examples):
    texts, prompts = ["is good.", "", "a bad one, I think"], ["it ", "so ", ""]
    steer = lmsteer.train(llama, tokenizer, examples, rank=2, steps=2, calibrate=False)
    with lmsteer.attach(llama, {steer: 3.0}):
        found = text_losses(llama, tokenizer, texts, prompts)
        for text, prompt, losses in zip(texts, prompts, found, strict=True):
            ids = torch.tensor([tokenizer(prompt).input_ids + tokenizer(text).input_ids])
            if not text:
                assert len(losses) == 0
                continue
            start = max(1, len(tokenizer(prompt).input_ids))
            wanted = cross_entropy(
                llama(input_ids=ids).logits[0, start - 1 : -1], ids[0, start:], reduction="none"
            )
            np.testing.assert_allclose(losses, wanted.double().numpy(), rtol=1e-4)
        joined = np.concatenate(found)
        steered = text_perplexity(llama, tokenizer, texts, prompts)
    assert steered.value == pytest.approx(np.exp(joined.mean()), rel=1e-6)
    assert steered.count == len(joined)
    assert text_perplexity(llama, tokenizer, texts, prompts).value != pytest.approx(steered.value)


def test_acceptability_is_the_auc_of_the_mean_log_probability(llama, tokenizer):
    texts = ["ab", "abc abc", "b", "it is good", "zq", "no no no"]
    losses = text_losses(llama, tokenizer, texts)
    scored = [i for i, part in enumerate(losses) if len(part)]
    order = sorted(scored, key=lambda i: losses[i].mean())
    likely = [i in order[:3] for i in range(len(texts))]
    found = acceptability(llama, tokenizer, texts, likely)
    assert (found.value, found.count) == (1.0, len(scored))
    assert acceptability(llama, tokenizer, texts, [not g for g in likely]).value == 0.0
    with pytest.raises(MismatchError):
        acceptability(llama, tokenizer, texts, [True])
    with pytest.raises(InputError, match="one kind"):
        acceptability(llama, tokenizer, texts, [True] * len(texts))


def test_a_steer_evens_out_sides_of_different_size(llama, tokenizer, examples):
    good = [e for e in examples if e.label > 0]
    bad = [e for e in examples if e.label < 0]
    for texts, evened in ((good + bad, False), (good + bad[:4], True)):
        method = METHODS["lm-steer"].fit(llama, tokenizer, texts)
        assert method.steer.record["balance"] is evened
