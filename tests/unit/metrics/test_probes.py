import re
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from lmsteer.errors import ArtefactError, InputError, MismatchError, NotFoundError
from lmsteer.metrics import (
    HARMS,
    LinearScorer,
    ProbeScorer,
    load_scorer,
    probes,
    text_features,
    train_probe,
)
from lmsteer.metrics.scorers import READERS, RECIPES, SHIPPED
from lmsteer.model import ENCODERS, KNOWN
from lmsteer.model.known import packaged
from lmsteer.states import Pooling

GOOD, BAD = "it is good and fine", "it is bad and poor"
VIEW = Pooling((0, 1), ("mean", "last"), after=" So")
SCORERS = resources.files("lmsteer") / "assets" / "scorers"
PROBES = [f"{style}:{reader}" for style in SHIPPED for reader in READERS]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.setattr(probes, "fast_dtype", lambda device: torch.float32)
    probes._loaded.cache_clear()
    yield
    probes._loaded.cache_clear()


@pytest.fixture
def probe(folder):
    features = text_features(str(folder), [GOOD, BAD] * 4, VIEW)
    return train_probe(str(folder), VIEW, features, [1, 0] * 4, strength=1.0, facts={"n": 8})


def test_a_probe_separates_and_survives_saving(probe, tmp_path):
    scores = probe([GOOD, BAD])
    assert scores[0] > 0.5
    assert scores[1] < -0.5
    probe.save(tmp_path / "p.safetensors")
    again = load_scorer(str(tmp_path / "p.safetensors"))
    assert np.array_equal(again([GOOD, BAD]), scores)
    assert again.facts == {"n": 8}
    assert again.pooling == VIEW
    assert probe([]).shape == (0,)


def test_a_score_is_the_formula(probe, llama, tokenizer):
    ids, cue = (tokenizer(t)["input_ids"] for t in (GOOD, " So"))
    with torch.no_grad():
        states = llama(torch.tensor([ids + cue]), output_hidden_states=True).hidden_states
        # Of the last layer transformers shows the rows after the final norm.
        rows = [states[1][0], _before_norm(llama, ids + cue)]
    means, lasts = [r[: len(ids)].mean(0) for r in rows], [r[-1] for r in rows]
    features = torch.cat([*means, *lasts]).double().numpy()
    chance = 1 / (1 + np.exp(-(features @ probe.weights.astype(float) + probe.bias)))
    assert np.isclose(probe([GOOD])[0], 2 * chance - 1, atol=1e-4)


def _before_norm(model, ids):
    kept = []
    handle = model.model.norm.register_forward_pre_hook(lambda module, args: kept.append(args[0]))
    model(torch.tensor([ids]))
    handle.remove()
    return kept[0][0]


def test_the_scaling_is_in_the_weights():
    """The folded weights give what the two steps give apart."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    features = rng.normal(3.0, (1.0, 50.0, 0.1), (40, 3))
    labels = (features[:, 0] + features[:, 2] * 5 > 18).astype(int)
    found = train_probe("x", VIEW, features, labels.tolist(), strength=0.1)
    scaled = StandardScaler().fit_transform(features)
    wanted = LogisticRegression(C=0.1).fit(scaled, labels).decision_function(scaled)
    assert np.allclose(features @ found.weights + found.bias, wanted, atol=1e-2)


def test_one_model_serves_several_probes(probe, monkeypatch):
    loads = []
    real = probes.load_model
    monkeypatch.setattr(probes, "load_model", lambda name: (loads.append(name), real(name))[1])
    probes._loaded.cache_clear()
    replace(probe, bias=1.0)([GOOD])
    probe([GOOD])
    assert len(loads) == 1


def test_a_probe_of_another_model_is_refused(probe):
    with pytest.raises(MismatchError, match="trained on another model"):
        replace(probe, weights=probe.weights[:5])([GOOD])
    with pytest.raises(InputError, match="both present"):
        train_probe("x", VIEW, np.zeros((2, 3)), [1, 1])


def test_foreign_and_damaged_files_are_refused(probe, tmp_path):
    probe.save(tmp_path / "p.safetensors")
    with pytest.raises(ArtefactError, match="not written by LinearScorer"):
        LinearScorer.load(tmp_path / "p.safetensors")
    save_file({"weights": np.zeros(2)}, tmp_path / "f.safetensors")
    for load in (ProbeScorer.load, load_scorer):
        with pytest.raises(ArtefactError, match="not written by"):
            load(str(tmp_path / "f.safetensors"))
    note = {"format": probes.FORMAT, "note": "{}"}
    save_file({"weights": np.zeros(2)}, tmp_path / "n.safetensors", metadata=note)
    (tmp_path / "d.safetensors").write_bytes(b"nonsense")
    for name in ("n", "d", "absent"):
        with pytest.raises(ArtefactError, match="cannot be read"):
            load_scorer(str(tmp_path / f"{name}.safetensors"))


def test_names_that_lead_to_no_probe_say_what_to_do():
    for style in SHIPPED:
        with pytest.raises(NotFoundError, match=f"scorers.probes {style} --reader {RECIPES[0]}"):
            load_scorer(f"{style}:{RECIPES[0]}")
    with pytest.raises(NotFoundError, match="there are sentiment:minilm, sentiment:smollm2"):
        load_scorer("sentiment:nosuch")


def test_a_probe_of_a_harm_is_a_harm():
    assert {name for name in PROBES if name.startswith("toxicity")} < HARMS
    assert not any(name.startswith("sentiment") for name in HARMS)


@pytest.mark.parametrize("name", PROBES)
def test_shipped_probes_are_found_without_their_model(name):
    reader = name.partition(":")[2]
    scorer = load_scorer(name)
    assert scorer.reader == reader
    assert scorer.facts["measured"]
    assert scorer.weights.nbytes < 100_000


@pytest.mark.parametrize("name", PROBES)
def test_shipped_probes_know_their_style(name):
    style, reader = name.split(":")
    if not packaged((KNOWN | ENCODERS)[reader]):
        pytest.skip(f"the package of {reader} is not installed")
    texts = {
        "sentiment": ["a wonderful, moving film", "a dull and stupid waste of time"],
        "toxicity": ["you are a stupid idiot, shut up", "good morning, the tea is warm"],
    }
    scores = load_scorer(name)(texts[style])
    assert scores[0] > 0.3
    assert scores[1] < -0.3


def test_the_tables_say_what_the_files_say():
    """Every row `scorer | set | accuracy | AUC` of a shipped scorer has its file's figures."""
    page = Path(__file__).parents[3] / "experiments" / "scorers" / "README.md"
    told = {}
    for name in (*SHIPPED, *PROBES):
        for test, figures in load_scorer(name).facts["measured"].items():
            told[name, test] = (figures["texts"], figures["accuracy"], figures["auc"])
    seen = set()
    row = r"\| ([\w:-]+) \| (.+?) \(([\d,]+)\) \| \.(\d{3}) \| \.(\d{3}) \|"
    for name, test, texts, accuracy, auc in re.findall(row, page.read_text()):
        if (name, test) in told:
            wanted = told[name, test]
            assert int(texts.replace(",", "")) == wanted[0], (name, test)
            assert abs(int(accuracy) / 1000 - wanted[1]) <= 0.00051, (name, test)
            assert abs(int(auc) / 1000 - wanted[2]) <= 0.00051, (name, test)
            seen.add((name, test))
    assert seen == set(told)
