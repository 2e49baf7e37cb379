"""Train the judges that read: a logistic regression on hidden states of another model.

python -m experiments.scorers.probes sentiment --reader minilm --data ../shared/data
python -m experiments.scorers.probes toxicity --reader gemma-3-270m --out .

The text is disjoint from the steers', as at the head of `train.py`: sentiment from single sentences
of IMDB reviews and from product pros and cons, toxicity from odd records of RealToxicityPrompts and
rows 1 mod 4 of tweets and comments. Layers, cue and ridge were chosen on SST dev and on a held-out
tenth of the toxic text, with `--choose`; scale and threshold are fitted there too. The test sets
are read once. `--folder` reads the model from a folder in place of its name.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.scorers.train import Labelled, judged, pieces
from experiments.scorers.train import toxicity as ngram_toxicity
from experiments.shared.text import RESERVED, clean, comment, fold, rows
from lmsteer.metrics import ProbeScorer, load_scorer, text_features, train_probe
from lmsteer.states import Pooling

SETS = tuple[Labelled, Labelled, dict[str, Labelled]]
STRENGTHS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)


class Recipe(NamedTuple):
    """What a probe reads, how strong its ridge is, and how many texts it learns from."""

    pooling: Pooling
    strength: float
    texts: int


BOTH = ("mean", "last")
RECIPES = {
    ("sentiment", "minilm"): Recipe(Pooling((2, 3, 4, 5)), 1e-3, 16_000),
    ("sentiment", "smollm2"): Recipe(Pooling((15, 18, 21), BOTH, "Review: "), 1e-4, 8_000),
    ("sentiment", "gemma-3-270m"): Recipe(Pooling((8, 10, 12), BOTH, "Review: "), 1e-4, 8_000),
    ("toxicity", "minilm"): Recipe(Pooling((2, 3, 4, 5)), 1e-3, 12_000),
    ("toxicity", "smollm2"): Recipe(Pooling((9, 15, 18), BOTH, "Comment: "), 3e-4, 6_000),
    ("toxicity", "gemma-3-270m"): Recipe(Pooling((6, 8, 10), BOTH, "Comment: "), 1e-4, 6_000),
}


def sentiment(data: Path, count: int) -> SETS:
    """Text to learn sentiment from, SST dev, and the sets that the n-gram scorer is measured on."""
    train, test = (list(rows(data / f"imdb_reviews/imdb_{s}.jsonl")) for s in ("train", "test"))
    reserved = set(RESERVED)
    reviews = train + [row for i, row in enumerate(test) if i not in reserved]
    shuffler = random.Random(0)
    shuffler.shuffle(reviews)
    learned: Labelled = []
    for review in reviews:  # one sentence per review, so that no review counts more than another
        short = [s for s in pieces(clean(review["text"]), 1) if 5 <= len(s.split()) <= 30]
        if short:
            learned.append((shuffler.choice(short), review["label"]))
        if len(learned) == count * 3 // 4:
            break
    phrases: Labelled = []
    for label, side in ((1, "Pros"), (0, "Cons")):
        text = (data / f"pros_cons/Integrated{side}.txt").read_bytes().decode("latin-1")
        found = [clean(t) for t in re.findall(rf"<{side}>(.*?)</{side}>", text)]
        phrases += [(t, label) for t in found if len(t.split()) > 2]
    learned += random.Random(1).sample(phrases, count // 4)
    dev, sst = (
        [(row["text"], row["label2"]) for row in rows(data / f"sst/sst_{split}.jsonl")]
        for split in ("dev", "test")
    )
    # Continuations are short: of one reserved review in six, the last two sentences.
    kept = [(pieces(clean(test[i]["text"]), 2)[-1], test[i]["label"]) for i in RESERVED[::6]]
    tested = {
        "SST-2 test": [pair for pair in sst if pair[1] is not None],
        "reserved IMDB, last sentences": kept,
    }
    return learned, [pair for pair in dev if pair[1] is not None], tested


def toxicity(data: Path, count: int) -> SETS:
    """Text to learn toxicity from, a held-out tenth of it, and the n-gram scorer's test sets."""
    found, tested = ngram_toxicity(data)
    known = {fold(text) for labelled in tested.values() for text, _ in labelled}
    known |= {fold(text) for text in steered(data)}
    unique = {fold(text): (text, label) for text, label in found if text}
    shuffled = [pair for key, pair in unique.items() if key not in known]
    random.Random(0).shuffle(shuffled)
    # A third of each large set is enough, and three times as quick for a model that reads.
    for name, part in (("tweets, rows 3 mod 4", "tweets, rows 3 mod 12"),):
        tested[part] = tested.pop(name)[::3]
    tested.pop("RealToxicityPrompts, even records")
    tested["RealToxicityPrompts, even continuations"] = [
        (comment(row["continuation"]["text"]), int(row["continuation"]["toxicity"] >= 0.5))
        for row in list(rows(data / "real_toxicity_prompts/rtp_val_5000.jsonl"))[::2]
        if row["continuation"].get("toxicity") is not None
    ]
    shuffled = shuffled[: count + count // 9]
    return shuffled[count // 9 :], shuffled[: count // 9], tested


def steered(data: Path) -> list[str]:
    """The tweets and comments that the detoxifying steers learn from."""
    from experiments.shared.styles import detox

    return [example.text for example in detox(data).examples]


SOURCES: dict[str, Callable[[Path, int], SETS]] = {"sentiment": sentiment, "toxicity": toxicity}


def features(reader: str, labelled: Labelled, pooling: Pooling, cache: Path | None) -> np.ndarray:
    """`text_features`; with a folder, each text is read once, and a run that ends is not lost."""
    texts = [text for text, _ in labelled]
    if cache is None:
        return text_features(reader, texts, pooling)
    folder = cache / digest(f"{Path(reader).name} {pooling}")
    folder.mkdir(parents=True, exist_ok=True)
    known: dict[str, np.ndarray] = {}
    for file in folder.glob("*.npz"):
        with np.load(file) as kept:
            known |= dict(zip(kept["keys"].tolist(), kept["rows"], strict=True))
    missing = list({digest(text): text for text in texts if digest(text) not in known}.items())
    for begin in range(0, len(missing), 500):
        part = missing[begin : begin + 500]
        found = text_features(reader, [text for _, text in part], pooling)
        keys = np.array([key for key, _ in part])
        np.savez(folder / f"{keys[0]}.npz", keys=keys, rows=found)
        known |= dict(zip(keys.tolist(), found, strict=True))
    return np.stack([known[digest(text)] for text in texts])


def digest(text: str) -> str:
    """A name for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def choose(reader: str, sets: SETS, pooling: Pooling, cache: Path | None) -> None:
    """The accuracy on the choosing set of every ridge, for each state alone and for all."""
    learned, chosen_by, _ = sets
    x, z = (features(reader, part, pooling, cache) for part in (learned, chosen_by))
    y, wanted = ([label for _, label in part] for part in (learned, chosen_by))
    names = [f"{pool} {layer}" for pool in pooling.pools for layer in pooling.layers]
    width = x.shape[1] // len(names)
    parts = {name: slice(i * width, (i + 1) * width) for i, name in enumerate(names)}
    for name, part in {**parts, "all": slice(None)}.items():
        row = []
        for strength in STRENGTHS:
            probe = train_probe(reader, pooling, x[:, part], y, strength=strength)
            right = ((z[:, part] @ probe.weights + probe.bias > 0) == wanted).mean()
            row.append(f"{strength:g}: {right:.4f}")
        print(name, *row, flush=True)


def calibrated(probe: ProbeScorer, known: np.ndarray, labels: list[int]) -> ProbeScorer:
    """The same direction; the scale and the threshold are fitted on the choosing set (Platt)."""
    from sklearn.linear_model import LogisticRegression

    margins = known @ probe.weights + probe.bias
    fitted = LogisticRegression(C=1e6).fit(margins[:, None], labels)
    scale, shift = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    return replace(probe, weights=probe.weights * scale, bias=probe.bias * scale + shift)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("style", choices=list(SOURCES))
    parser.add_argument("--reader", required=True, help="minilm, smollm2 or gemma-3-270m")
    parser.add_argument("--folder", help="read the model from here in place of its name")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("src/lmsteer/assets/scorers"))
    parser.add_argument("--cache", type=Path, help="keep features in this folder")
    parser.add_argument("--texts", type=int, help="how many texts to learn from")
    parser.add_argument("--choose", action="store_true", help="show choices; write nothing")
    parser.add_argument("--layers", type=int, nargs="+", help="with --choose")
    args = parser.parse_args()
    recipe = RECIPES[args.style, args.reader]
    sets = SOURCES[args.style](args.data, args.texts or recipe.texts)
    reader = args.folder or args.reader
    if args.choose:
        pooling = replace(recipe.pooling, layers=tuple(args.layers or recipe.pooling.layers))
        choose(reader, sets, pooling, args.cache)
        return
    learned, chosen_by, tested = sets
    (x, y), (z, wanted) = (
        (features(reader, part, recipe.pooling, args.cache), [label for _, label in part])
        for part in (learned, chosen_by)
    )
    probe = train_probe(reader, recipe.pooling, x, y, strength=recipe.strength)
    probe = calibrated(probe, z, wanted)

    def told(labelled: Labelled) -> np.ndarray:
        found = features(reader, labelled, recipe.pooling, args.cache)
        return np.tanh((found @ probe.weights + probe.bias) / 2)

    others = {n: load_scorer(n) for n in (args.style, "vader")[: 1 + (args.style == "sentiment")]}
    beside = {
        name: {key: judged(scorer, labelled) for key, labelled in tested.items()}
        for name, scorer in others.items()
    }
    measured = {
        key: judged(lambda _, labelled=labelled: told(labelled), labelled)
        for key, labelled in tested.items()
    }
    facts = {"texts": len(learned), "measured": measured, "beside": beside}
    facts |= {
        "command": f"python -m experiments.scorers.probes {args.style} --reader {args.reader}"
    }
    replace(probe, reader=args.reader, facts=facts).save(
        args.out / f"{args.style}-{args.reader}.safetensors"
    )
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
