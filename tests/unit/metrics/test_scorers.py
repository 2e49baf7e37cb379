import numpy as np
import pytest
from safetensors.numpy import save_file
from sklearn.feature_extraction.text import HashingVectorizer
from transformers import LlamaConfig, LlamaForSequenceClassification

from lmsteer.errors import ArtefactError, InputError, NotFoundError
from lmsteer.metrics.linear import LinearScorer, train_scorer
from lmsteer.metrics.masking import masked
from lmsteer.metrics.scorers import load_scorer

GOOD, BAD = "it is good and fine", "it is bad and poor"


@pytest.fixture
def scorer():
    return train_scorer([GOOD, BAD] * 4, [1, 0] * 4, bits=10, strength=100.0, facts={"n": 8})


def test_a_trained_scorer_separates_and_survives_saving(scorer, tmp_path):
    scores = scorer([GOOD, BAD, ""])
    assert scores[0] > 0.3
    assert scores[1] < -0.3
    assert np.isclose(scores[2], np.tanh(scorer.bias / 2))
    scorer.save(tmp_path / "s.safetensors")
    again = load_scorer(str(tmp_path / "s.safetensors"))
    assert np.array_equal(again([GOOD, BAD]), scores[:2])
    assert again.facts == {"n": 8}


def test_a_trained_scorer_is_naive_bayes_logistic_regression(scorer):
    """The folded weights give what the two steps give apart."""
    text = "good poor good"
    features = ("good", "poor", "good poor", "poor good")
    hashed = HashingVectorizer(
        n_features=1024, alternate_sign=False, norm=None, token_pattern=r"\S+ ?\S*"
    )
    places = [hashed.transform([f]).indices[0] for f in features]
    total = sum(float(scorer.weights[p]) for p in set(places)) / len(set(places)) ** 0.5
    assert np.isclose(scorer([text])[0], np.tanh((total + scorer.bias) / 2), atol=1e-6)


def test_foreign_and_damaged_files_are_refused(tmp_path):
    save_file({"weights": np.zeros(2, np.float16)}, tmp_path / "f.safetensors")
    with pytest.raises(ArtefactError, match="not written by"):
        LinearScorer.load(tmp_path / "f.safetensors")
    (tmp_path / "d.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ArtefactError, match="cannot be read"):
        LinearScorer.load(tmp_path / "d.safetensors")
    with pytest.raises(InputError, match="both present"):
        train_scorer(["a"], [1])


def test_shipped_scorers_know_their_style():
    sentiment, toxicity = load_scorer("sentiment"), load_scorer("toxicity")
    scores = sentiment(["a wonderful, moving film", "a dull and stupid waste of time"])
    assert scores[0] > 0.3
    assert scores[1] < -0.3
    assert sentiment.facts["measured"]["SST-2 test"]["accuracy"] > 0.8
    assert toxicity.facts["measured"]["tweets, rows 3 mod 4"]["accuracy"] > 0.9
    assert (toxicity(["good morning", "the tea is warm"]) < 0).all()


def half(texts):
    return [0.5 for _ in texts]


def wrong(texts):
    return [0.5]


def test_a_callable_of_ones_own():
    assert load_scorer("test_scorers:half")(["a", "b"]).tolist() == [0.5, 0.5]
    with pytest.raises(InputError, match="one finite number per text"):
        load_scorer("test_scorers:wrong")(["a", "b"])
    with pytest.raises(NotFoundError, match="no scorer"):
        load_scorer("test_scorers:nosuch")
    with pytest.raises(InputError, match="not callable"):
        load_scorer("test_scorers:GOOD")
    with pytest.raises(NotFoundError, match="expected vader, sentiment"):
        load_scorer("nosuch-scorer")


def test_a_text_classification_model_of_the_hub(tokenizer, tmp_path):
    config = LlamaConfig(
        vocab_size=259,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        pad_token_id=0,
        id2label={0: "NEGATIVE", 1: "POSITIVE"},
        label2id={"NEGATIVE": 0, "POSITIVE": 1},
    )
    model = LlamaForSequenceClassification(config).eval().requires_grad_(False)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    texts = ["it is good", "", "bad"]
    scores = load_scorer(str(tmp_path), device="cpu")(texts)
    for text, score in zip(texts, scores, strict=True):
        ids = tokenizer(text or " ", return_tensors="pt")
        chance = model(**{k: v for k, v in ids.items() if k != "token_type_ids"}).logits.softmax(-1)
        assert np.isclose(score, 2 * float(chance[0, 1]) - 1, atol=1e-4)
    negative = load_scorer(str(tmp_path), positive="NEGATIVE", device="cpu")(texts)
    assert np.allclose(negative, -scores, atol=1e-5)
    with pytest.raises(InputError, match="say which one"):
        load_scorer(str(tmp_path), positive="HAPPY", device="cpu")


def test_offensive_words_are_masked_and_plain_ones_are_not():
    assert masked("what an idiot, said the bird") == "what an i***, said the bird"
    assert masked("a dull, horrible film! No.") == "a dull, horrible film! No."
    assert masked(" -- ") == " -- "
