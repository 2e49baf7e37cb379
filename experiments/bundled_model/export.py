"""Measure a trained model and put it into the package with its card.

python -m experiments.bundled_model.export --data DIR --model DIR/model --facts 'on ... tokens'
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from pathlib import Path

import torch

import lmsteer
from lmsteer.model.head import read_head, token_nll
from lmsteer.states.hidden import read_states
from lmsteer.text.encoding import Encoded

OPENINGS = ["The film was", "My life is", "I think that", "When I got home,", "She looked at the"]


def measure(model, tokenizer, texts: list[str], length: int = 512) -> tuple[float, float, int]:
    """Perplexity a token, bits per byte, and bytes; each text cut to the context."""
    ids = [tokenizer(text)["input_ids"][:length] for text in texts]
    ids = [row for row in ids if len(row) > 1]
    ones = torch.ones(len(ids))
    encoded = Encoded(ids, ones.long(), ones, ones, list(range(len(ids))), 0, 0)
    states = read_states(model, encoded)
    nll = float(token_nll(read_head(model), states.hidden, states.targets).double().sum())
    size = sum(len(tokenizer.decode(row[1:]).encode()) for row in ids)
    return math.exp(nll / len(states)), nll / math.log(2) / size, size


def card(
    name: str,
    model,
    tokenizer,
    held_out: dict,
    split: dict,
    facts: str,
    commands: list[str],
    masked: set[str],
) -> str:
    """The model card."""
    lines = [
        "---",
        "license: mit",
        "language: en",
        "pipeline_tag: text-generation",
        "---",
        "",
        f"# lmsteer {name}",
        "",
        f"A {sum(p.numel() for p in model.parameters()) / 1e6:.1f}M-parameter Llama "
        f"(vocabulary {model.config.vocab_size}, dim {model.config.hidden_size}, "
        f"{model.config.num_hidden_layers} layers, "
        f"{'tied' if model.config.tie_word_embeddings else 'untied'} head), trained from scratch "
        f"for the lmsteer package {facts}, so that the first command works with no network. "
        "It writes like an English review, sentence by sentence, and makes no sense for longer.",
        "",
        "| held-out text | perplexity a token | bits per byte |",
        "|---|---:|---:|",
    ]
    for source, texts in held_out.items():
        ppl, bits, size = measure(model, tokenizer, texts[:400])
        lines.append(
            f"| {source} ({len(texts[:400])} texts, {size / 1e3:.0f} kB, each cut to 512 tokens) "
            f"| {ppl:.1f} | {bits:.3f} |"
        )
    lines += [
        "",
        "## Data",
        "",
        "| source | share of tokens | licence as stated |",
        "|---|---:|---|",
    ]
    for source, counts in split.items():
        lines.append(f"| {source} | {counts['share of tokens']:.1%} | {LICENCES[source]} |")
    lines += [
        "",
        "Kept out by folded match: the reserved IMDB reviews (test lines 11000-12499 and "
        "23500-24999), every SST sentence, RealToxicityPrompts, the sentiment prompts, every fifth "
        "request, every other tweet and toxic comment. The model may repeat what is hateful in "
        "reviews, tweets and comments.",
        "",
        "## Recipe",
        "",
        "`experiments/bundled_model/` (Muon for the trunk's matrices, AdamW for the rest, bf16 "
        "products, 8,192 tokens a step in windows of 256, the last of 512); after `corpus.py` and "
        f"`tokenizer.py --vocab {model.config.vocab_size}`:",
        "",
        "```",
        *(f"python -m experiments.bundled_model.train {command}" for command in commands),
        "```",
        "",
        "## Ten unpicked samples (top-p 0.9, seed 0)",
        "",
    ]
    for record in lmsteer.generate(
        model, tokenizer, OPENINGS, samples=2, max_new_tokens=40, top_p=0.9, seed=0
    ):
        words = [
            word if word.strip(".,!?\"'").lower() not in masked else word[0] + "***"
            for word in record.text.split()
        ]
        lines.append(f"- **{record.prompt}** {' '.join(words)}")
    lines += [
        "",
        "## What it cannot do",
        "",
        "Facts, reasoning, long texts, instructions, other languages than English.",
    ]
    return "\n".join(lines) + "\n"


LICENCES = {
    "IMDB reviews": "none stated (Maas et al. 2011)",
    "textbooks": "CC BY 4.0 (OpenStax, Rice University)",
    "news for learners": "CC BY-SA 4.0 (OneStopEnglish)",
    "dialogues": "CC BY-SA 4.0 (Schema-Guided Dialogue)",
    "orders": "CC BY 4.0 (Taskmaster-4)",
    "books": "public domain in the USA (Project Gutenberg texts)",
    "stories": "CDLA-Sharing-1.0 (TinyStories)",
    "pros and cons": "CC BY 4.0 (Ganapathibhotla and Liu 2008)",
    "requests": "none stated (Stanford Politeness Corpus; Wikipedia, Stack Exchange)",
    "tweets": "MIT (Davidson et al. 2017)",
    "toxic comments": "MIT (Surge AI)",
}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument(
        "--facts", required=True, help="for the card: 'on 30M tokens (1.3 epochs) on two CPU cores'"
    )
    parser.add_argument(
        "--command", action="append", default=[], help="options of train.py, for the card; repeat"
    )
    parser.add_argument(
        "--words", type=Path, default=Path("../shared/data/lexicons/ldnoobw_en.txt")
    )
    parser.add_argument("--out", type=Path, default=Path("src/lmsteer/assets/models/bundled"))
    args = parser.parse_args()
    model, tokenizer = lmsteer.load_model(args.model)
    masked = {w.strip().lower() for w in args.words.read_text().split("\n") if w.strip()}
    held_out = json.loads((args.data / "held_out.json").read_text())
    split = json.loads((args.data / "split.json").read_text())
    text = card(args.out.name, model, tokenizer, held_out, split, args.facts, args.command, masked)
    args.out.mkdir(parents=True, exist_ok=True)
    for file in args.model.iterdir():
        shutil.copy(file, args.out / file.name)
    (args.out / "README.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
