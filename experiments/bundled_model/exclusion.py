"""What no document to train on may hold: text that steers and models are tested on.

Matched on folded text (letters and digits, lower case), so that the tokenised and lower-cased
copies of a sentence are found too.
"""

from __future__ import annotations

import re
from pathlib import Path

from experiments.shared.text import fold, rows

KEY = 6  # words by which a forbidden run is looked up


class Exclusion:
    """Tells whether a document holds a forbidden text.

    Forbidden are: sentences of SST, all splits (a steer's own held-out text is then new to the
    model too); prompts of RealToxicityPrompts and of the sentiment prompts, of 8 words and more;
    reserved IMDB reviews (by their first 20 words, so that a shortened or lengthened copy is found
    as well). SST sentences of 3 to 5 words count only where they are a whole sentence of the
    document: as a run of words they are found everywhere by chance.
    """

    def __init__(self, data: Path, reserved: list[str]) -> None:
        runs = {" ".join(fold(text).split()[:20]) for text in reserved}
        self.sentences: set[str] = set()
        for split in ("train", "dev", "test"):
            for row in rows(data / f"sst/sst_{split}.jsonl"):
                words = fold(row["text"]).split()
                (runs if len(words) >= KEY else self.sentences).add(" ".join(words))
        self.sentences = {text for text in self.sentences if text.count(" ") >= 2}
        prompts = [*(data / "sentiment_prompts").glob("*_prompts.jsonl")]
        for path in (*prompts, data / "real_toxicity_prompts/rtp_val_5000.jsonl"):
            for row in rows(path):
                words = fold(row["prompt"]["text"]).split()
                if len(words) >= 8:
                    runs.add(" ".join(words))
        self.runs: dict[tuple[str, ...], list[str]] = {}
        for run in runs:
            self.runs.setdefault(tuple(run.split()[:KEY]), []).append(run + " ")

    def holds(self, document: str) -> bool:
        """Whether the document holds a forbidden run of words or short sentence."""
        words = fold(document).split()
        text = ""
        for key in zip(*(words[i:] for i in range(KEY)), strict=False):
            if key in self.runs:
                text = text or " ".join(words) + " "
                if any(run in text for run in self.runs[key]):
                    return True
        parts = re.split(r"[.!?\n]+", document)
        return any(fold(part) in self.sentences for part in parts if len(part) < 60)
