"""Pretrain a small Llama on packed tokens, on CPU or GPU; interrupt and start again at will.

python -m experiments.bundled_model.train --data DIR --out DIR --tokens 20000000

Muon for the matrices of the trunk, AdamW for the rest; warm-up, constant rate, and a linear decay
over the last 30% of the tokens. A checkpoint every few minutes; the same command resumes, also
with another `--tokens` (fewer, to bring the decay forward).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, PreTrainedTokenizerFast

from experiments.bundled_model.network import Network


def configuration(args: argparse.Namespace) -> LlamaConfig:
    """The shape of the network."""
    return LlamaConfig(
        vocab_size=args.vocab,
        hidden_size=args.dim,
        num_hidden_layers=args.layers,
        intermediate_size=math.ceil(args.dim * 8 / 3 / 128) * 128,
        num_attention_heads=args.dim // args.head,
        num_key_value_heads=args.dim // args.head,
        max_position_embeddings=512,
        tie_word_embeddings=not args.untied,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
        attention_dropout=0.0,
    )


def optimisers(network: Network, args: argparse.Namespace) -> list[torch.optim.Optimizer]:
    """Muon for the trunk's matrices, AdamW for embeddings and norms."""
    trunk = [p for p in network.layers.parameters() if p.ndim == 2]
    inside = {id(p) for p in trunk}
    rest = [p for p in network.parameters() if id(p) not in inside]
    return [
        torch.optim.Muon(trunk, lr=args.muon_rate, weight_decay=args.decay, momentum=0.95),
        torch.optim.AdamW(rest, lr=args.adam_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]


def share_of_rate(done: float) -> float:
    """Warm-up over 2%, constant, linear decay over the last 30%."""
    return min(1.0, done / 0.02 + 0.01, (1.0 - done) / 0.3)


def bits_per_byte(model, tokenizer, texts: list[str], device: str, length: int = 512) -> float:
    """Total NLL in bits over total UTF-8 bytes of the texts, each cut to the context."""
    nll = size = 0.0
    with torch.inference_mode():
        for text in texts:
            ids = tokenizer(text)["input_ids"][:length]
            tensor = torch.tensor([ids], device=device)
            nll += float(model(tensor, labels=tensor).loss) * (len(ids) - 1)
            size += len(tokenizer.decode(ids[1:]).encode())
    return nll / math.log(2) / size


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--vocab", type=int, default=8192)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--head", type=int, default=64, help="width of an attention head")
    parser.add_argument("--untied", action="store_true")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=256, help="batch x length stays on a resume")
    parser.add_argument("--decay", type=float, default=0.02, help="Muon's weight decay")
    parser.add_argument("--muon-rate", type=float, default=0.02)
    parser.add_argument("--adam-rate", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes-a-checkpoint", type=float, default=4)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    args.out.mkdir(parents=True, exist_ok=True)
    packed = torch.from_numpy(np.fromfile(args.data / "train.bin", np.uint16).astype(np.int32))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(args.data / "tokenizer")
    held_out = json.loads((args.data / "held_out.json").read_text())["IMDB reviews"][:30]
    torch.manual_seed(args.seed)
    network = Network(configuration(args)).to(device)
    rules = optimisers(network, args)
    rates = [group["lr"] for rule in rules for group in rule.param_groups]
    step, saved = 0, args.out / "checkpoint.pt"
    if saved.exists():
        state = torch.load(saved, map_location=device, weights_only=True)
        network.load_state_dict(state["network"])
        for rule, values in zip(rules, state["rules"], strict=True):
            rule.load_state_dict(values)
        step = state["step"]
    per_step = args.batch * args.length
    total = args.tokens // per_step
    # Windows of the packed text in random order, an epoch at a time, the same after a resume.
    windows = (len(packed) - 1) // args.length
    print(
        f"{sum(p.numel() for p in network.parameters()) / 1e6:.2f}M parameters, {total} steps, "
        f"{windows * args.length / 1e6:.1f}M tokens an epoch",
        flush=True,
    )
    begun = last = time.time()
    first = step
    while step < total:
        numbers = torch.arange(step * args.batch, (step + 1) * args.batch)
        epoch = int(numbers[0]) // windows
        order = torch.randperm(windows, generator=torch.Generator().manual_seed(args.seed + epoch))
        starts = order[numbers % windows] * args.length
        ids = torch.stack([packed[s : s + args.length + 1] for s in starts]).long().to(device)
        for group, rate in zip((g for r in rules for g in r.param_groups), rates, strict=True):
            group["lr"] = rate * share_of_rate(step / total)
        loss = network.step(ids)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for rule in rules:
            rule.step()
            rule.zero_grad()
        step += 1
        if step % 20 == 0 or step == total:
            line = {
                "step": step,
                "tokens": step * per_step,
                "loss": round(loss, 4),
                "tokens_a_second": round((step - first) * per_step / (time.time() - begun)),
            }
            if step % 200 == 0 or step == total:
                line["imdb_bits_per_byte"] = round(
                    bits_per_byte(network.to_llama().to(device), tokenizer, held_out, device), 4
                )
            print(json.dumps(line), flush=True)
        if time.time() - last > 60 * args.minutes_a_checkpoint or step == total:
            state = {
                "network": network.state_dict(),
                "rules": [r.state_dict() for r in rules],
                "step": step,
            }
            torch.save(state, saved.with_suffix(".new"))
            os.replace(saved.with_suffix(".new"), saved)
            last = time.time()
    network.to_llama().to(torch.bfloat16).save_pretrained(args.out / "model")
    tokenizer.save_pretrained(args.out / "model")


if __name__ == "__main__":
    main()
