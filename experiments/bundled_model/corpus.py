"""Documents to pretrain on, from the text in shared/data; see its README for the licences.

Kept out, by case- and punctuation-folded match: the reserved IMDB reviews, every SST sentence,
RealToxicityPrompts and the sentiment prompts. Not read at all: sst, rt_polarity (SST's own
snippets), the subjective half of subjectivity, cola, wikitext2, shakespeare_modern (its modern
side may not be redistributed).
"""

from __future__ import annotations

import csv
import html
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

RESERVED = [*range(11000, 12500), *range(23500, 25000)]
_QUOTES = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "..."})
# Share of a source's documents that is used; 1 where it is not named.
SHARES = {
    "dialogues": 0.06,
    "orders": 0.05,
    "tweets": 0.35,
    "toxic comments": 0.5,
    "pros and cons": 0.6,
}


def clean(text: str) -> str:
    """Plain text: no HTML, ASCII quotes, single spaces, at most one blank line."""
    text = re.sub(r"<br\s*/?>", "\n", text)
    text = html.unescape(html.unescape(text)).translate(_QUOTES)
    text = re.sub(r"<[^>\n]{1,40}>", " ", text)
    text = re.sub(r"[ \t\u00a0]+", " ", text)
    return re.sub(
        r" ?\n ?(\n ?)*", lambda m: "\n\n" if m[0].count("\n") > 1 else "\n", text
    ).strip()


def fold(text: str) -> str:
    """Letters and digits alone, lower case, words parted by one space."""
    return " ".join(re.findall(r"[a-z0-9]+", clean(text).lower()))


def rows(path: Path) -> Iterator[dict]:
    """Objects of a JSONL file; not splitlines(), which would cut at U+2028."""
    for line in path.read_text(encoding="utf-8").split("\n"):
        if line.strip():
            yield json.loads(line)


def imdb(data: Path) -> tuple[list[str], list[str]]:
    """IMDB reviews to train on, and the reserved ones."""
    test = [row["text"] for row in rows(data / "imdb_reviews/imdb_test.jsonl")]
    reserved = set(RESERVED)
    train = [row["text"] for row in rows(data / "imdb_reviews/imdb_train.jsonl")]
    train += [text for i, text in enumerate(test) if i not in reserved]
    return [clean(t) for t in train], [clean(test[i]) for i in RESERVED]


def sst(data: Path, split: str) -> list[str]:
    """Sentences of a split of SST."""
    return [row["text"] for row in rows(data / f"sst/sst_{split}.jsonl")]


def _unwrapped(path: Path) -> str:
    text = path.read_bytes().decode("utf-8", errors="replace")
    return re.sub(r"(?<=\S)\r?\n(?=\S)", " ", text.replace("\r", ""))


def _pieces(text: str, size: int) -> Iterator[str]:
    """A long text, cut at paragraph ends about every `size` characters."""
    part: list[str] = []
    for paragraph in clean(text).split("\n\n"):
        part.append(paragraph)
        if sum(map(len, part)) > size:
            yield "\n\n".join(part)
            part = []
    if part:
        yield "\n\n".join(part)


def _tweet(text: str) -> str:
    text = re.sub(r"https?://\S+|&#\d+;|@\w+:?|\bRT\b|[^\x00-\x7f]", " ", html.unescape(text))
    return re.sub(r"\s+", " ", text).strip(' "!:')


def sources(data: Path) -> dict[str, list[str]]:
    """All documents by source, before shares and exclusions."""
    found: dict[str, list[str]] = {"IMDB reviews": imdb(data)[0]}
    general = data / "general_english"
    for name, file in (
        ("textbooks", "openstax_textbooks"),
        ("news for learners", "onestopenglish_news"),
        ("dialogues", "schema_guided_dialogues"),
        ("orders", "taskmaster4_dialogues"),
        ("books", "public_domain_books"),
    ):
        found[name] = [clean(row["text"]) for row in rows(general / f"{file}.jsonl")]
    for path in sorted((data / "gutenberg").glob("*.txt")):
        if path.name != "ORIGINAL_README.txt":
            found["books"] += _pieces(_unwrapped(path), 20_000)
    stories = json.loads((data / "tinystories/tinystories_1000.json").read_text())
    stories = [s if isinstance(s, str) else s["text"] for s in stories]
    more = (data / "tinystories/tinystories_10k.txt").read_text(encoding="utf-8")
    found["stories"] = [clean(s) for s in stories + more.split("<|endoftext|>") if s.strip()]
    lines = []
    for name in ("IntegratedPros.txt", "IntegratedCons.txt"):
        text = (data / "pros_cons" / name).read_bytes().decode("latin-1")
        lines += [clean(s) for s in re.findall(r"<(?:Pros|Cons)>(.*?)</(?:Pros|Cons)>", text)]
    random.Random(0).shuffle(lines)
    found["pros and cons"] = ["\n".join(lines[i : i + 8]) for i in range(0, len(lines), 8)]
    found["requests"] = [
        clean(row["text"])
        for name in ("stack-exchange", "wikipedia")
        for row in rows(data / f"politeness/{name}.jsonl")
    ]
    with (data / "hate_offensive_tweets/labeled_data.csv").open(
        encoding="utf-8", newline=""
    ) as file:
        found["tweets"] = [t for row in csv.DictReader(file) if (t := _tweet(row["tweet"]))]
    with (data / "surge_toxicity/toxicity_en.csv").open(encoding="utf-8", newline="") as file:
        found["toxic comments"] = [clean(row["text"]) for row in csv.DictReader(file)]
    return found


def excluded(data: Path) -> tuple[set[str], set[str]]:
    """Folded texts that must not be learned: whole documents, and runs of words within one."""
    whole = {fold(text) for text in imdb(data)[1]}
    parts = {fold(t) for split in ("train", "dev", "test") for t in sst(data, split)}
    for path in (data / "sentiment_prompts").glob("*_prompts.jsonl"):
        parts |= {fold(row["prompt"]["text"]) for row in rows(path)}
    for row in rows(data / "real_toxicity_prompts/rtp_val_5000.jsonl"):
        parts |= {fold(row["prompt"]["text"] + row["continuation"]["text"])}
    return whole, {part for part in parts if part.count(" ") >= 7}


def _holds(document: str, parts: dict[str, list[str]]) -> bool:
    words = fold(document).split(" ")
    text = " ".join(words) + " "
    keys = (" ".join(words[i : i + 8]) for i in range(len(words) - 7))
    return any(part + " " in text for key in keys for part in parts.get(key, ()))


def documents(data: Path, seed: int = 0) -> tuple[dict[str, list[str]], dict[str, list[str]], dict]:
    """Documents by source to train on, some held out (stories, books), and a record of counts."""
    whole, parts = excluded(data)
    by_start: dict[str, list[str]] = {}
    for part in parts:
        by_start.setdefault(" ".join(part.split(" ")[:8]), []).append(part)
    kept, held_out, record, seen = {}, {}, {}, set()
    for name, texts in sources(data).items():
        shuffled = list(texts)
        random.Random(f"{seed}{name}").shuffle(shuffled)
        shuffled = shuffled[: round(SHARES.get(name, 1.0) * len(shuffled))]
        chosen, dropped = [], 0
        for text in shuffled:
            key = fold(text)
            if len(key) < 12 or key in seen or key in whole or _holds(text, by_start):
                dropped += 1
                continue
            seen.add(key)
            chosen.append(text)
        if name in ("stories", "books"):
            cut = 60 if name == "stories" else 12
            held_out[name], chosen = chosen[:cut], chosen[cut:]
        kept[name] = chosen
        record[name] = {
            "documents": len(chosen),
            "dropped": dropped,
            "characters": sum(map(len, chosen)),
        }
    return kept, held_out, record
