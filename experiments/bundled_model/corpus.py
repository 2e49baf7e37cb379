"""Documents to pretrain on, from the text in shared/data; see its README for the licences.

python -m experiments.bundled_model.corpus --data ../shared/data --out DIR

Writes `documents.jsonl` (source and text, shuffled), `held_out.json` (texts to measure on) and
`split.json` (what was read, dropped and kept, by source). Not read at all: sst, rt_polarity (SST's
own snippets), subjectivity, cola, wikitext2, real_toxicity_prompts, sentiment_prompts, and
shakespeare_modern (its modern side may not be redistributed). `exclusion.py` says what is dropped.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

from experiments.bundled_model.exclusion import Exclusion
from experiments.shared.text import clean, comment, fold, imdb, request, rows

# How much of a source is used: below 1, that share of its documents; above, that many copies.
# Reviews are the bulk; the dialogues are fluent but say the same things over and over; tweets and
# comments are few, so two and three copies of their half make a share that a model can notice.
SHARES = {
    "textbooks": 0.4,
    "books": 0.6,
    "dialogues": 0.03,
    "orders": 0.05,
    "pros and cons": 0.6,
    "tweets": 2,
    "toxic comments": 3,
}
HELD_OUT = {"stories": 60, "books": 12}


def _unwrapped(path: Path) -> str:
    """A book without its hard line breaks; blank lines still part paragraphs."""
    text = path.read_bytes().decode("utf-8", errors="replace").replace("\r", "")
    return re.sub(r"(?<=\S)[ \t]*\n[ \t]*(?=\S)", " ", text).replace("--", " - ")


def _parts(text: str, size: int = 20_000) -> Iterator[str]:
    """A long text, cut at paragraph ends about every `size` characters."""
    part: list[str] = []
    for paragraph in clean(text).split("\n\n"):
        part.append(paragraph)
        if sum(map(len, part)) > size:
            yield "\n\n".join(part)
            part = []
    if part:
        yield "\n\n".join(part)


def _sentence(phrase: str) -> str:
    """A telegraphic phrase as a line that looks like a sentence."""
    phrase = phrase.strip(" -*.,;")
    return phrase[:1].upper() + phrase[1:] + ("" if phrase[-1:] in "!?" else ".")


def _pros_cons(data: Path) -> Iterator[str]:
    """Eight lines of one side (all pros or all cons) a document."""
    for name in ("IntegratedPros.txt", "IntegratedCons.txt"):
        text = (data / "pros_cons" / name).read_bytes().decode("latin-1")
        found = [clean(s) for s in re.findall(r"<(?:Pros|Cons)>(.*?)</(?:Pros|Cons)>", text)]
        lines = [_sentence(s) for s in dict.fromkeys(found) if len(s) > 3]
        random.Random(name).shuffle(lines)
        yield from ("\n".join(lines[i : i + 8]) for i in range(0, len(lines), 8))


def sources(data: Path) -> dict[str, list[str]]:
    """All documents by source, before shares and exclusions."""
    found: dict[str, list[str]] = {"IMDB reviews": imdb(data)[0]}
    general = data / "general_english"
    for name, file in (
        ("textbooks", "openstax_textbooks"),
        ("dialogues", "schema_guided_dialogues"),
        ("orders", "taskmaster4_dialogues"),
        ("books", "public_domain_books"),
    ):
        found[name] = [clean(row["text"]) for row in rows(general / f"{file}.jsonl")]
    # The same article comes at three reading levels: the middle one is left out.
    found["news for learners"] = [
        clean(row["text"])
        for row in rows(general / "onestopenglish_news.jsonl")
        if not row["title"].endswith("-int")
    ]
    for path in sorted((data / "gutenberg").glob("*.txt")):
        if path.name != "ORIGINAL_README.txt":
            found["books"] += _parts(_unwrapped(path))
    stories = json.loads((data / "tinystories/tinystories_1000.json").read_text(encoding="utf-8"))
    more = (data / "tinystories/tinystories_10k.txt").read_text(encoding="utf-8")
    found["stories"] = [clean(s) for s in stories + more.split("<|endoftext|>")]
    found["pros and cons"] = list(_pros_cons(data))
    # Every fifth request, and the comments at odd places, stay unseen: they can judge a steer.
    found["requests"] = [
        request(row["text"])
        for name in ("stack-exchange", "wikipedia")
        for i, row in enumerate(rows(data / f"politeness/{name}.jsonl"))
        if i % 5
    ]
    for name, file, column in (
        ("tweets", "hate_offensive_tweets/labeled_data.csv", "tweet"),
        ("toxic comments", "surge_toxicity/toxicity_en.csv", "text"),
    ):
        with (data / file).open(encoding="utf-8", newline="") as opened:
            comments = [row[column] for row in csv.DictReader(opened)]
        found[name] = [comment(text) for text in comments[::2]]
    return found


def documents(data: Path) -> tuple[list[tuple[str, str]], dict[str, list[str]], dict]:
    """(source, text) pairs to train on, held-out texts by source, and a record of counts."""
    exclusion = Exclusion(data, imdb(data)[1])
    kept: list[tuple[str, str]] = []
    held_out: dict[str, list[str]] = {}
    record: dict[str, dict] = {}
    seen: set[str] = set()
    for name, texts in sources(data).items():
        count = {"read": len(texts), "short": 0, "repeated": 0, "excluded": 0}
        random.Random(name).shuffle(texts)
        chosen = []
        for text in texts[: round(min(1, SHARES.get(name, 1)) * len(texts))]:
            key = fold(text)
            if len(key) < 12:
                count["short"] += 1
            elif key in seen:
                count["repeated"] += 1
            elif exclusion.holds(text):
                count["excluded"] += 1
            else:
                seen.add(key)
                chosen.append(text)
        if name in HELD_OUT:
            held_out[name], chosen = chosen[: HELD_OUT[name]], chosen[HELD_OUT[name] :]
            count["held out"] = HELD_OUT[name]
        copies = max(1, round(SHARES.get(name, 1)))
        kept += [(name, text) for text in chosen] * copies
        count |= {"used": len(chosen), "copies": copies, "characters": sum(map(len, chosen))}
        record[name] = count
    random.Random(0).shuffle(kept)
    return kept, held_out, record


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    kept, held_out, record = documents(args.data)
    with (args.out / "documents.jsonl").open("w", encoding="utf-8") as file:
        for name, text in kept:
            file.write(json.dumps({"source": name, "text": text}) + "\n")
    test = [clean(row["text"]) for row in rows(args.data / "sst/sst_test.jsonl")]
    held_out |= {"IMDB reviews": imdb(args.data)[1], "SST test": test}
    (args.out / "held_out.json").write_text(json.dumps(held_out), encoding="utf-8")
    (args.out / "split.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
