"""A steer from SST-5 on the bundled model, judged by a word list and by a classifier.

python experiments/first_bars/effect.py --data ../shared/data

The classifier (TF-IDF and logistic regression) learns from IMDB reviews alone, cut to pieces of
about a sentence; the steer learns from SST alone, so neither has met the other's text.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import lmsteer
from lmsteer.metrics import lexicon_scores, perplexity, positive_rate


def rows(path: Path) -> list[dict]:
    """Objects of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def classifier(data: Path):
    """Positive or not, learned from 5,000 IMDB training reviews in pieces of sentences."""
    texts, labels = [], []
    for row in rows(data / "imdb_reviews/imdb_train.jsonl")[::5]:
        clean = re.sub(r"<br\s*/?>", " ", row["text"])
        pieces = re.split(r"(?<=[.!?])\s+", clean)
        texts += [" ".join(pieces[i : i + 3]) for i in range(0, len(pieces), 3)]
        labels += [row["label"]] * len(range(0, len(pieces), 3))
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=3, sublinear_tf=True),
        LogisticRegression(C=3.0, max_iter=300),
    )
    return model.fit(texts, labels)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--strengths", type=float, nargs="+", default=[-3, -2, 0, 2, 3])
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--tokens", type=int, default=24)
    args = parser.parse_args()
    judge = classifier(args.data)
    tested = [r for r in rows(args.data / "sst/sst_test.jsonl") if r["label2"] is not None]
    right = judge.predict([r["text"] for r in tested]) == [r["label2"] for r in tested]
    print(f"classifier: {np.mean(right):.1%} on SST-2 test")
    model, tokenizer = lmsteer.load_model(args.model)
    examples = lmsteer.read_examples(
        args.data / "sst/sst_train.jsonl", label="label5", scale=(0, 4)
    )
    steer = lmsteer.train(model, tokenizer, examples, name="sentiment", calibrate=False)
    print(json.dumps(steer.record["held_out"]), steer.record["seconds"], "s")
    prompts = lmsteer.read_prompts("bundled:neutral")[:50]
    records = lmsteer.generate(
        model,
        tokenizer,
        prompts,
        samples=4,
        max_new_tokens=args.tokens,
        min_new_tokens=args.tokens,
        top_p=0.9,
        strengths=[{steer: s} for s in args.strengths],
    )
    for strength in args.strengths:
        part = [r for r in records if r.strengths["sentiment"] == strength]
        texts = [r.text for r in part]
        lexicon = positive_rate(part, lexicon_scores(texts))
        judged = positive_rate(part, judge.predict_proba(texts)[:, 1] - 0.5)
        print(
            f"{strength:+g}: lexicon {lexicon}, classifier {judged}, "
            f"perplexity {perplexity(model, tokenizer, part)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
