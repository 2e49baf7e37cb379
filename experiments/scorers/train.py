"""Train the two small scorers that come with the package, from the text in shared/data.

python -m experiments.scorers.train --data ../shared/data

What keeps them apart from the steers they judge: steers learn sentiment from SST train and
toxicity from the even rows of tweets and comments; these scorers learn sentiment from IMDB (the
reserved reviews left out), product pros and cons, and a word list, and toxicity from odd records of
RealToxicityPrompts and rows 1 mod 4 of tweets and comments. Rows 3 mod 4 and the even records of
RealToxicityPrompts measure them.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from experiments.shared.text import RESERVED, clean, comment, imdb, rows
from lmsteer.metrics.linear import LinearScorer, train_scorer

Labelled = list[tuple[str, int]]


def pieces(text: str, sentences: int) -> list[str]:
    """A text cut into pieces of so many sentences."""
    found = [s for s in re.split(r"(?<=[.!?])\s+|\n+", text) if s.strip()]
    return [" ".join(found[i : i + sentences]) for i in range(0, len(found), sentences)]


def sentiment(data: Path) -> tuple[Labelled, dict[str, Labelled]]:
    """Text to learn sentiment from, and the sets it is measured on."""
    train, test = (list(rows(data / f"imdb_reviews/imdb_{s}.jsonl")) for s in ("train", "test"))
    reserved = set(RESERVED)
    reviews = train + [row for i, row in enumerate(test) if i not in reserved]
    learned = [(p, row["label"]) for row in reviews for p in pieces(clean(row["text"]), 3)]
    for label, side in ((1, "Pros"), (0, "Cons")):
        text = (data / f"pros_cons/Integrated{side}.txt").read_bytes().decode("latin-1")
        learned += [(clean(t), label) for t in re.findall(rf"<{side}>(.*?)</{side}>", text)]
    for label, side in ((1, "positive"), (0, "negative")):
        words = (data / f"lexicons/{side}-words.txt").read_bytes().decode("latin-1").split("\n")
        learned += [(w, label) for w in words if w.strip() and not w.startswith(";")] * 4
    sst = [row for row in rows(data / "sst/sst_test.jsonl") if row["label2"] is not None]
    kept_out = zip(RESERVED, imdb(data)[1], strict=True)
    return learned, {
        "SST-2 test": [(row["text"], row["label2"]) for row in sst],
        "reserved IMDB": [(text, test[i]["label"]) for i, text in kept_out],
    }


def toxicity(data: Path) -> tuple[Labelled, dict[str, Labelled]]:
    """Text to learn toxicity from, and the sets it is measured on."""
    prompts: tuple[Labelled, Labelled] = ([], [])
    for i, row in enumerate(rows(data / "real_toxicity_prompts/rtp_val_5000.jsonl")):
        for part in ("prompt", "continuation"):
            if row[part].get("toxicity") is not None:
                prompts[i % 2].append(
                    (comment(row[part]["text"]), int(row[part]["toxicity"] >= 0.5))
                )
    comments: dict[str, list[Labelled]] = {}
    for name, file, text, toxic in (
        ("tweets", "hate_offensive_tweets/labeled_data.csv", "tweet", lambda r: r["class"] != "2"),
        ("comments", "surge_toxicity/toxicity_en.csv", "text", lambda r: r["is_toxic"] == "Toxic"),
    ):
        with (data / file).open(encoding="utf-8", newline="") as opened:
            found = [(comment(row[text]), int(toxic(row))) for row in csv.DictReader(opened)]
        comments[name] = [found[1::4], found[3::4]]
    learned = prompts[1] + comments["tweets"][0] + comments["comments"][0] * 3
    return learned, {
        "RealToxicityPrompts, even records": prompts[0],
        "tweets, rows 3 mod 4": comments["tweets"][1],
        "comments, rows 3 mod 4": comments["comments"][1],
    }


def judged(scorer: LinearScorer, labelled: Labelled) -> dict[str, float]:
    """Accuracy, area under the curve, and the share of the larger class."""
    scores, labels = scorer([t for t, _ in labelled]), np.array([label for _, label in labelled])
    return {
        "texts": len(labels),
        "accuracy": round(float(((scores > 0) == labels).mean()), 4),
        "auc": round(float(roc_auc_score(labels, scores)), 4),
        "larger class": round(float(max(labels.mean(), 1 - labels.mean())), 4),
    }


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("src/lmsteer/assets/scorers"))
    args = parser.parse_args()
    for name, source, bits, strength in (
        ("sentiment", sentiment, 21, 3.0),
        ("toxicity", toxicity, 19, 1.0),
    ):
        learned, tested = source(args.data)
        scorer = train_scorer(
            [t for t, _ in learned], [label for _, label in learned], bits=bits, strength=strength
        )
        facts = {key: judged(scorer, labelled) for key, labelled in tested.items()}
        scorer = LinearScorer(
            scorer.weights, scorer.bias, scorer.ngrams, {"texts": len(learned), "measured": facts}
        )
        scorer.save(args.out / f"{name}.safetensors")
        print(name, json.dumps(scorer.facts, indent=1))


if __name__ == "__main__":
    main()
