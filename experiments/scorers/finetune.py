"""An attempt at a better sentiment scorer: a small language model, fine-tuned to classify.

python -m experiments.scorers.finetune --model bundled-small --out DIR [--pieces 100000]

Learns from the text that `train.py` learns from; writes a text-classification model for
transformers.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaForSequenceClassification

import lmsteer
from experiments.scorers.train import judged, sentiment

BATCH_TOKENS = 4096
LONGEST = 96


def batches(tokenizer, labelled: list[tuple[str, int]], seed: int):
    """Batches of like length, in random order."""
    ids = tokenizer([t for t, _ in labelled], truncation=True, max_length=LONGEST)["input_ids"]
    order = sorted(range(len(ids)), key=lambda i: (len(ids[i]), i))
    parts, part = [], []
    for i in order:
        if part and len(ids[i]) * (len(part) + 1) > BATCH_TOKENS:
            parts.append(part)
            part = []
        part.append(i)
    parts.append(part)
    random.Random(seed).shuffle(parts)
    for part in parts:
        longest = max(len(ids[i]) for i in part)
        mask = torch.tensor([[1] * len(ids[i]) + [0] * (longest - len(ids[i])) for i in part])
        padded = torch.tensor([ids[i] + [0] * (longest - len(ids[i])) for i in part])
        yield part, padded, mask


def scored(model, tokenizer, texts: list[str]) -> np.ndarray:
    """2 * probability - 1 of the positive class."""
    scores = np.zeros(len(texts))
    with torch.inference_mode():
        for part, ids, mask in batches(tokenizer, [(t, 0) for t in texts], 0):
            chance = model(ids, attention_mask=mask).logits.float().softmax(-1)[:, 1]
            scores[part] = 2 * chance.numpy() - 1
    return scores


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="bundled-small")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pieces", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=4e-4)
    args = parser.parse_args()
    learned, tested = sentiment(args.data)
    random.Random(0).shuffle(learned)
    learned = learned[: args.pieces]
    base, tokenizer = lmsteer.load_model(args.model)
    torch.manual_seed(0)
    model = LlamaForSequenceClassification(base.config)
    model.config.id2label = {0: "NEGATIVE", 1: "POSITIVE"}
    model.config.label2id = {"NEGATIVE": 0, "POSITIVE": 1}
    model.model.load_state_dict(base.model.state_dict())
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.rate, weight_decay=0.05, fused=True)
    parts = list(batches(tokenizer, learned, 0))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, args.rate, total_steps=len(parts), pct_start=0.1
    )
    labels = torch.tensor([label for _, label in learned])
    begun = time.time()
    for step, (part, ids, mask) in enumerate(parts):
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(ids, attention_mask=mask).logits
        loss = torch.nn.functional.cross_entropy(logits.float(), labels[part], label_smoothing=0.1)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        if step % 50 == 0:
            print(step, len(parts), round(float(loss.detach()), 4), round(time.time() - begun))
    model.eval().to(torch.bfloat16).float()
    for name, labelled in tested.items():
        print(name, json.dumps(judged(lambda texts: scored(model, tokenizer, texts), labelled)))
    model.save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)


if __name__ == "__main__":
    main()
