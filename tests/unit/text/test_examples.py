import json

import pytest
import torch

import lmsteer
from lmsteer.errors import InputError, NotFoundError
from lmsteer.text.batch import batch_texts, pad_batch
from lmsteer.text.encoding import encode
from lmsteer.text.example import digest_of
from lmsteer.text.split import split_held_out


def write(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_jsonl_csv_and_stdin_read_alike(tmp_path, monkeypatch):
    rows = [{"text": "fine\u2028day", "label": 1}, {"text": 'so, "so"', "label": -0.5}]
    expected = [lmsteer.Example("fine\u2028day", 1.0), lmsteer.Example('so, "so"', -0.5)]
    file = write(tmp_path / "a.jsonl", rows)
    assert lmsteer.read_examples(file) == expected
    table = tmp_path / "a.csv"
    table.write_text('text,label\n"fine\u2028day",1\n"so, ""so""",-0.5\n', encoding="utf-8")
    assert lmsteer.read_examples(table) == expected
    with file.open(encoding="utf-8") as stream:
        monkeypatch.setattr("sys.stdin", stream)
        assert lmsteer.read_examples("-") == expected


def test_columns_classes_and_grades(tmp_path):
    rows = [
        {"review": "a b", "stars": 1, "kind": "bad", "before": "Q:"},
        {"review": "c d", "stars": 5, "kind": "good", "before": None},
    ]
    file = write(tmp_path / "a.jsonl", rows)
    graded = lmsteer.read_examples(file, text="review", label="stars", scale=(1, 5), prompt="kind")
    assert [(e.label, e.prompt) for e in graded] == [(-1.0, "bad"), (1.0, "good")]
    named = lmsteer.read_examples(
        file, text="review", label="kind", positive="good", negative="bad"
    )
    assert [e.label for e in named] == [-1.0, 1.0]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {}, "holds no rows"),
        ([{"text": "a", "stars": 1}], {}, "no value in column 'label'.*'stars'"),
        ([{"text": "a", "label": 4}], {}, "row 1: label must be a number between -1 and 1.*scale"),
        ([{"text": " ", "label": 1}], {}, "row 1: text must be a non-empty string"),
        ([{"text": "a", "label": "pos"}], {}, "'pos' is not a number.*positive="),
        ([{"text": "a", "label": "x"}], {"positive": "p", "negative": "n"}, "neither the positive"),
        ([{"text": "a", "label": 9}], {"scale": (0, 4)}, "outside scale"),
        ([{"text": "a", "label": 0}, {"text": "b", "label": 1}], {}, "0 would mean neutral"),
        ([{"text": "a", "label": 1}], {"positive": "p"}, "together"),
        ([{"text": "a", "label": float("nan")}], {}, "label must be"),
    ],
)
def test_bad_rows_say_what_is_wrong(tmp_path, rows, options, message):
    with pytest.raises(InputError, match=message):
        lmsteer.read_examples(write(tmp_path / "a.jsonl", rows), **options)


def test_bad_files(tmp_path):
    with pytest.raises(NotFoundError, match="no file"):
        lmsteer.read_examples(tmp_path / "none.jsonl")
    (tmp_path / "a.jsonl").write_text("{")
    with pytest.raises(InputError, match="row 1: not JSON"):
        lmsteer.read_examples(tmp_path / "a.jsonl")
    (tmp_path / "b.csv").write_bytes(b"text,label\n\xff\xfe,1\n")
    with pytest.raises(InputError, match="not UTF-8"):
        lmsteer.read_examples(tmp_path / "b.csv")
    (tmp_path / "c.xls").write_text("")
    with pytest.raises(InputError, match="unknown format 'xls'"):
        lmsteer.read_examples(tmp_path / "c.xls")
    with pytest.raises(NotFoundError, match="sentiment, politeness"):
        lmsteer.read_examples("bundled:nothing")


def test_pads_prompts_and_first_tokens_are_no_targets(tokenizer):
    examples = [
        lmsteer.Example("abc", 1),
        lmsteer.Example("wxyz", -1, "12"),
        lmsteer.Example("q", 0),
    ]
    encoded = encode(tokenizer, examples, max_length=64)
    assert (encoded.skipped, encoded.source) == (1, [0, 1])
    (texts,) = batch_texts(encoded, 8192)
    batch = pad_batch(encoded, texts)
    learned = [
        "".join(tokenizer.decode(i) for i in row[m])
        for row, m in zip(batch.input_ids, batch.is_target, strict=True)
    ]
    assert dict(zip(batch.text.tolist(), learned, strict=True)) == {0: "bc", 1: "wxyz"}


def test_long_texts_are_cut_and_counted(tokenizer):
    encoded = encode(
        tokenizer, [lmsteer.Example("a" * 50, 1), lmsteer.Example("bb", 0)], max_length=9
    )
    assert encoded.truncated == 1
    assert len(encoded.ids[0]) == 9


def test_no_target_at_all_is_an_error(tokenizer):
    with pytest.raises(InputError, match="at least two tokens"):
        encode(tokenizer, [lmsteer.Example("a", 1)], max_length=9)


def test_weights(tokenizer):
    examples = [lmsteer.Example("abcde", 1), lmsteer.Example("xyz", -1), lmsteer.Example("uvw", -1)]
    by_text = encode(tokenizer, examples, max_length=9, weight="text")
    mass = by_text.token_weights * by_text.target_counts
    assert torch.allclose(mass, mass[:1].expand(3))
    balanced = encode(tokenizer, examples, max_length=9, balance=True)
    mass = balanced.token_weights * balanced.target_counts
    assert mass[0] == pytest.approx(float(mass[1:].sum()))
    assert float(mass.sum()) == pytest.approx(int(balanced.target_counts.sum()))


def test_the_split_depends_on_content_alone(examples):
    kept, tested = split_held_out(examples, 0.25)
    assert len(tested) == 10
    assert sorted(kept + tested) == list(range(len(examples)))
    turned = examples[::-1]
    again = split_held_out(turned, 0.25)[1]
    assert {examples[i] for i in tested} == {turned[i] for i in again}
    assert digest_of(examples) == digest_of(turned)
    assert split_held_out(examples[:10], 0.25)[1] == []


def test_bundled_examples_are_there_and_even():
    for name, least in (("sentiment", 300), ("politeness", 100)):
        labels = [e.label for e in lmsteer.read_examples(f"bundled:{name}")]
        assert len(labels) >= least
        assert labels.count(1.0) == labels.count(-1.0) == len(labels) / 2
    assert len(lmsteer.read_prompts("bundled:neutral")) >= 50


def test_a_dataset_folder_is_read_by_the_datasets_library(tmp_path):
    pytest.importorskip("datasets")
    rows = [{"sentence": "a fine day", "stars": 5}, {"sentence": "a sad day", "stars": 1}]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    read = lmsteer.read_examples(f"hf:{tmp_path}", text="sentence", label="stars", scale=(1, 5))
    assert [(e.text, e.label) for e in read] == [("a fine day", 1.0), ("a sad day", -1.0)]
    with pytest.raises(NotFoundError, match="could not load the data set"):
        lmsteer.read_examples(f"hf:{tmp_path / 'nosuch'}")
