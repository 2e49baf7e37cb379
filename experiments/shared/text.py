"""Reading and cleaning of text, shared by the corpus and by what is kept out of it."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path

# Records of imdb_test.jsonl (0-based) that no training may see.
RESERVED = (*range(11000, 12500), *range(23500, 25000))
# Typographic marks to ASCII, so that a small vocabulary is not spent on them; the C1 controls are
# what is left of cp1252 text that was read as Latin-1.
_ASCII = str.maketrans(
    {
        **dict.fromkeys("‘’‚´`\x91\x92", "'"),
        **dict.fromkeys("“”„«»\x84\x93\x94", '"'),
        **dict.fromkeys("–—―\x96\x97", "-"),
        **dict.fromkeys("…\x85", "..."),
        **dict.fromkeys("\u00ad\u200b\ufeff", ""),
    }
)


def clean(text: str) -> str:
    """Plain text: no HTML, ASCII quotes, single spaces, at most one blank line."""
    text = re.sub(r"<br\s*/?>", "\n", text)
    text = html.unescape(html.unescape(text)).translate(_ASCII)
    text = re.sub(r"<[^>\n]{1,40}>", " ", text)
    text = re.sub(r"[ \t\u00a0]+", " ", text)
    text = re.sub(r" ?\n ?(\n ?)*", lambda m: "\n\n" if m[0].count("\n") > 1 else "\n", text)
    return text.strip()


def fold(text: str) -> str:
    """Letters and digits alone, lower case, words parted by one space."""
    return " ".join(re.findall(r"[a-z0-9]+", clean(text).lower()))


def rows(path: Path) -> Iterator[dict]:
    """Objects of a JSONL file; not splitlines(), which would cut at U+2028."""
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)


def imdb(data: Path) -> tuple[list[str], list[str]]:
    """IMDB reviews to train on, and the reserved ones."""
    test = [row["text"] for row in rows(data / "imdb_reviews/imdb_test.jsonl")]
    reserved = set(RESERVED)
    train = [row["text"] for row in rows(data / "imdb_reviews/imdb_train.jsonl")]
    train += [text for i, text in enumerate(test) if i not in reserved]
    return [clean(t) for t in train], [clean(test[i]) for i in RESERVED]


def toxicity_prompts(data: Path) -> tuple[list[str], list[str]]:
    """The harmless and the toxic prompts (.5 or more); scorers learn from odd records."""
    records = list(rows(data / "real_toxicity_prompts/rtp_val_5000.jsonl"))[::2]
    scored = [r["prompt"] for r in records if r["prompt"].get("toxicity") is not None]
    sides: tuple[list[str], list[str]] = ([], [])
    for prompt in scored:
        sides[prompt["toxicity"] >= 0.5].append(prompt["text"])
    return sides


def comment(text: str) -> str:
    """A tweet or comment without user names, addresses and entities."""
    text = html.unescape(html.unescape(text))
    text = re.sub(r"https?://\S+|www\.\S+|&?#\d+;?|@\w+:?|\bRT\b", " ", text)
    return clean(re.sub(r"[^\x00-\x7f]", " ", clean(text)).strip(' "!:\n'))


def request(text: str) -> str:
    """A request without the data set's broken entities and address marks."""
    text = re.sub(r"&?#\d+;?|<url>|&lt;url&gt;", " ", text)
    return clean(text)
