"""A byte-level BPE tokenizer for the corpus, and the corpus as packed tokens.

python -m experiments.bundled_model.tokenizer --corpus DIR --vocab 8192

Writes into DIR: `tokenizer/` (for AutoTokenizer), `train.bin` (uint16 tokens, every document begun
by the end mark, which is also what a text begins with) and the token counts into `split.json`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from experiments.shared.text import rows

END = "<|endoftext|>"


def train_tokenizer(texts: list[str], vocab: int, context: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE with `END` as id 0, put before every text as Llama does."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[END],
        min_frequency=2,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END} $A", pair=f"{END} $A $B", special_tokens=[(END, 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],  # transformers 4 adds a third
        model_max_length=context,
    )


def check(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> None:
    """Every text comes back exactly, and begins with the mark."""
    for text in [*texts, " two  spaces", "café — 日本 🎬\t\n\n x", ""]:
        ids = tokenizer(text)["input_ids"]
        assert ids[0] == 0, text
        assert 0 not in ids[1:], text
        assert tokenizer.decode(ids, skip_special_tokens=True) == text, text


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--vocab", type=int, default=8192)
    parser.add_argument("--context", type=int, default=512)
    args = parser.parse_args()
    documents = list(rows(args.corpus / "documents.jsonl"))
    # A third of the documents gives the same merges for practical ends, in a third of the time.
    sample = [row["text"] for row in documents[::3]]
    train_tokenizer(sample, args.vocab, args.context).save_pretrained(args.corpus / "tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(args.corpus / "tokenizer")
    check(tokenizer, [row["text"] for row in documents[:500]])
    counts: dict[str, int] = {}
    with (args.corpus / "train.bin").open("wb") as file:
        for first in range(0, len(documents), 1000):
            some = documents[first : first + 1000]
            encoded = tokenizer.backend_tokenizer.encode_batch([row["text"] for row in some])
            for row, encoding in zip(some, encoded, strict=True):
                counts[row["source"]] = counts.get(row["source"], 0) + len(encoding.ids)
                np.array(encoding.ids, np.uint16).tofile(file)
    record = json.loads((args.corpus / "split.json").read_text(encoding="utf-8"))
    total = sum(counts.values())
    for name, count in counts.items():
        record[name] |= {"tokens": count, "share of tokens": round(count / total, 4)}
    (args.corpus / "split.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=1), f"\n{total} tokens")


if __name__ == "__main__":
    main()
