"""The labelled text of each shipped steer, and the judges that never met it.

Each style has two judges: n-grams, and a linear probe on the states of MiniLM, which reads whole
sentences and is none of the models that are steered.

What keeps them apart: sentiment learns from SST train, its judges from IMDB and product pros and
cons (they ship). Detoxification learns from the even rows of tweets and comments, its judges from
odd RealToxicityPrompts and rows 1 mod 4. The others learn from the texts that fall in the first
half by their hash; their judges, trained here, from the second half.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from experiments.shared.text import clean, comment, request, rows
from lmsteer import Example
from lmsteer.metrics import text_features, train_probe
from lmsteer.metrics.linear import train_scorer
from lmsteer.metrics.scorers import Scorer, load_scorer
from lmsteer.states import Pooling


@dataclass(frozen=True)
class Style:
    """What a steer learns from and how its effect is judged.

    Args:
        examples: Labelled text.
        judge: Scores in [-1, 1], above 0 where strength above 0 should lead.
        prompts: Bundled set that text is sampled from.
        plus: What strength above 0 means.
        source: The data, for the card.
        reader: Makes the second judge, which reads with MiniLM; scores as those of `judge`.
        balance: Whether both signs weigh the same in training.
    """

    examples: list[Example]
    judge: Scorer
    prompts: str
    plus: str
    source: str
    reader: Callable[[], Scorer]
    balance: bool = False


def sentiment(data: Path) -> Style:
    """Positive against negative: SST-5 train, graded."""
    found = [
        Example(clean(row["text"]), row["label5"] / 2 - 1)
        for row in rows(data / "sst/sst_train.jsonl")
    ]
    return Style(
        found,
        load_scorer("sentiment"),
        "neutral",
        "positive",
        "Stanford Sentiment Treebank, sentences of the training split, five classes",
        lambda: load_scorer("sentiment:minilm"),
    )


def detox(data: Path) -> Style:
    """Harmless against toxic: even rows of tweets and comments."""
    found = []
    for file, column, toxic in (
        ("hate_offensive_tweets/labeled_data.csv", "tweet", lambda r: r["class"] != "2"),
        ("surge_toxicity/toxicity_en.csv", "text", lambda r: r["is_toxic"] == "Toxic"),
    ):
        with (data / file).open(encoding="utf-8", newline="") as opened:
            for row in list(csv.DictReader(opened))[::2]:
                if text := comment(row[column]):
                    found.append(Example(text, -1.0 if toxic(row) else 1.0))
    return Style(
        found,
        _opposite(load_scorer("toxicity")),
        "neutral",
        "harmless",
        "tweets of Davidson et al. 2017 and comments of Surge AI, every other row",
        lambda: _opposite(load_scorer("toxicity:minilm")),
        balance=True,
    )


def politeness_rows(data: Path) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
    """Requests with their scores: those to learn from, and the others."""
    found = []
    for community in ("stack-exchange", "wikipedia"):
        for row in rows(data / f"politeness/{community}.jsonl"):
            if text := request(row["text"]):
                found.append((text, max(-1.0, min(1.0, row["score"]))))
    return _halves(found)


def politeness(data: Path) -> Style:
    """Polite against rude requests: the score of the Stanford Politeness Corpus."""
    learned, others = politeness_rows(data)
    # The quarters that the corpus calls polite and impolite.
    judged = [(t, s > 0) for t, s in others if s > 0.45 or s < -0.4]
    return Style(
        [Example(text, score) for text, score in learned],
        _judge(judged),
        "request",
        "polite",
        "Stanford Politeness Corpus, half of the requests, graded",
        lambda: _probe(judged),
    )


def subjectivity(data: Path) -> Style:
    """A reviewer's opinion against the telling of a plot."""
    found = []
    for file, label in (("quote", 1.0), ("plot", -1.0)):
        content = (data / f"subjectivity/{file}.tok.gt9.5000").read_bytes().decode("latin-1")
        found += [(clean(line), label) for line in content.split("\n") if line.strip()]
    learned, others = _halves(found)
    judged = [(t, s > 0) for t, s in others]
    return Style(
        [Example(text, label) for text, label in learned],
        _judge(judged),
        "neutral",
        "opinion",
        "subjectivity data set of Pang and Lee 2004, half of the sentences",
        lambda: _probe(judged),
    )


def story(data: Path) -> Style:
    """A story for children against a textbook, three sentences each."""
    stories = json.loads((data / "tinystories/tinystories_1000.json").read_text(encoding="utf-8"))
    textbooks = rows(data / "general_english/openstax_textbooks.jsonl")
    found = []
    for texts, label in ((stories, 1.0), ((row["text"] for row in textbooks), -1.0)):
        parts = [part for text in texts for part in _pieces(clean(text))]
        # As many of each, spread over all the texts.
        found += [(part, label) for part in parts[:: max(1, len(parts) // 4000)][:4000]]
    learned, others = _halves(found)
    judged = [(t, s > 0) for t, s in others]
    return Style(
        [Example(text, label) for text, label in learned],
        _judge(judged),
        "neutral",
        "as in a story for children",
        "TinyStories against OpenStax textbooks, pieces of three sentences",
        lambda: _probe(judged),
    )


STYLES = {
    "sentiment": sentiment,
    "detox": detox,
    "politeness": politeness,
    "subjectivity": subjectivity,
    "story": story,
}


def _halves(found: list[tuple[str, float]]) -> tuple[list, list]:
    sides: tuple[list, list] = ([], [])
    for row in found:
        sides[hashlib.sha256(row[0].encode()).digest()[0] % 2].append(row)
    return sides


def _pieces(text: str) -> list[str]:
    found = [s for s in re.split(r"(?<=[.!?])\s+", text) if s.strip()]
    return [" ".join(found[i : i + 3]) for i in range(0, len(found) - 2, 3)]


def _judge(labelled: list[tuple[str, bool]]) -> Scorer:
    return train_scorer([t for t, _ in labelled], [int(y) for _, y in labelled], bits=19)


def _probe(labelled: list[tuple[str, bool]]) -> Scorer:
    pooling = Pooling((2, 3, 4, 5))
    read = text_features("minilm", [t for t, _ in labelled], pooling)
    return train_probe("minilm", pooling, read, [int(y) for _, y in labelled])


def _opposite(scorer: Scorer) -> Scorer:
    return lambda texts: -scorer(texts)
