"""Tokenizer and packed tokens.

python experiments/bundled_model/prepare.py --vocab 8192 --out DIR
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import numpy as np
from corpus import documents, imdb, sst
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

END = "<|endoftext|>"


def train_tokenizer(texts: list[str], vocab: int) -> PreTrainedTokenizerFast:
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
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--vocab", type=int, default=8192)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    kept, held_out, record = documents(args.data)
    texts = [text for group in kept.values() for text in group]
    random.Random(0).shuffle(texts)
    tokenizer = train_tokenizer(texts, args.vocab)
    tokenizer.save_pretrained(args.out / "tokenizer")
    total = {}
    for name, group in kept.items():
        ids = tokenizer(group)["input_ids"]
        record[name]["tokens"] = total[name] = sum(map(len, ids))
    for name in total:
        record[name]["share of tokens"] = round(total[name] / sum(total.values()), 4)
    packed = np.concatenate([np.array(ids, np.uint16) for ids in tokenizer(texts)["input_ids"]])
    np.save(args.out / "train.npy", packed)
    held_out |= {"IMDB reviews": imdb(args.data)[1], "SST test": sst(args.data, "test")}
    (args.out / "held_out.json").write_text(json.dumps(held_out))
    (args.out / "mix.json").write_text(json.dumps(record, indent=1))
    print(json.dumps(record, indent=1), f"\n{len(packed)} tokens")


if __name__ == "__main__":
    main()
