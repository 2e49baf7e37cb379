import pytest
import torch

import lmsteer
from lmsteer.errors import InputError

OPTIONS = {"calibrate": False}


@pytest.fixture
def both(examples):
    """Two labels a text: the word's own, and whether the text is shouted."""
    return [
        lmsteer.Example(e.text.upper() if shout > 0 else e.text, (e.label, shout))
        for e in examples
        for shout in (1.0, -1.0)
    ]


def loss(model, tokenizer, steers, text):
    ids = torch.tensor(tokenizer(text)["input_ids"])[None]
    with lmsteer.attach(model, steers):
        return float(model(ids, labels=ids).loss)


def test_two_styles_are_learned_together_and_kept_apart(llama, tokenizer, both):
    taste, shout = lmsteer.recipes.train_jointly(
        llama, tokenizer, both, ["taste", "shout"], **OPTIONS
    )
    assert (taste.name, shout.name) == ("taste", "shout")
    assert torch.equal(taste.domain.matrix(), shout.domain.matrix())
    assert taste.record["data"]["positive"] == shout.record["data"]["positive"] == 40
    texts = {(1, 1): "IT IS GREAT.", (1, -1): "it is great.", (-1, 1): "IT IS AWFUL."}
    for signs, text in texts.items():
        at = {
            (a, b): loss(llama, tokenizer, {taste: a, shout: b, taste.domain: 1.0}, text)
            for a in (-1, 1)
            for b in (-1, 1)
        }
        assert min(at, key=at.get) == signs


def test_one_label_as_a_tuple_is_the_plain_training(llama, tokenizer, examples):
    plain = lmsteer.train(llama, tokenizer, examples, **OPTIONS)
    tuples = [lmsteer.Example(e.text, (e.label,)) for e in examples]
    (same,) = lmsteer.recipes.train_jointly(llama, tokenizer, tuples, ["taste"], **OPTIONS)
    assert torch.equal(plain.matrix(), same.matrix())
    assert plain.record["data"]["sha256"] == same.record["data"]["sha256"]


def test_mistakes(llama, tokenizer, examples, both):
    with pytest.raises(InputError, match="train_jointly"):
        lmsteer.train(llama, tokenizer, both)
    with pytest.raises(InputError, match="expected 2 labels per text"):
        lmsteer.recipes.train_jointly(llama, tokenizer, examples, ["taste", "shout"])
    with pytest.raises(InputError, match="for 'shout'"):
        lmsteer.recipes.train_jointly(
            llama, tokenizer, [e for e in both if e.label[1] == 1.0], ["taste", "shout"]
        )
    with pytest.raises(InputError, match="balance"):
        lmsteer.recipes.train_jointly(llama, tokenizer, both, ["taste", "shout"], balance=True)
    with pytest.raises(InputError, match="between -1 and 1"):
        lmsteer.Example("text", (0.0, 2.0))


def test_columns_of_a_file_are_labels_and_blanks_are_neutral(tmp_path):
    (tmp_path / "two.csv").write_text("text,a,b\nfine,1,\nsour,-1,1\nplain,0,-1\n")
    read = lmsteer.read_examples(tmp_path / "two.csv", label=["a", "b"])
    assert [e.label for e in read] == [(1.0, 0.0), (-1.0, 1.0), (0.0, -1.0)]
