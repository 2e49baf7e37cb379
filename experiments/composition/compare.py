"""Sum against product of two steers: what the choice changes, and whether each style survives.

    python experiments/composition/compare.py --out experiments/composition

Trains `sentiment` and `politeness` on the bundled examples, jointly and apart, and prints, for
strengths (a, b): the KL of the product to the sum, nats a token, beside that of the sum to the base
model, over the positions of unsteered text; then the two-style grid by classifier and lexicon.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

import lmsteer
from lmsteer.encoding import encode_pairs
from lmsteer.evaluation.figure import grid_figure
from lmsteer.evaluation.measure import measure
from lmsteer.hidden import read_head, read_states
from lmsteer.metrics import load_scorer


def kl(head, rows: torch.Tensor, other: torch.Tensor) -> float:
    """KL of the scores on `rows` to those on `other`, mean over positions."""
    total = 0.0
    for part in head.chunks(len(rows)):
        p = head.logits(rows[part]).double().log_softmax(-1)
        q = head.logits(other[part]).double().log_softmax(-1)
        total += float((p.exp() * (p - q)).sum())
    return total / len(rows)


def main() -> None:
    """Run it; a few minutes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out = parser.parse_args().out
    model, tokenizer = lmsteer.load_model("bundled")
    steers = {
        name: lmsteer.train(
            model, tokenizer, lmsteer.read_examples(f"bundled:{name}"), name=name, calibrate=False
        )
        for name in ("sentiment", "politeness")
    }
    a, b = steers.values()
    prompts = lmsteer.read_prompts("bundled:neutral")
    base = lmsteer.generate(model, tokenizer, prompts, samples=4, max_new_tokens=24, top_p=0.9)
    texts = encode_pairs(
        tokenizer, [r.prompt for r in base], [r.text for r in base], max_length=None
    )
    hidden, head = read_states(model, texts).hidden, read_head(model)
    table = []
    for strengths in ((1.0, 1.0), (2.0, 2.0), (2.0, -2.0), (3.0, 3.0), (5.0, 5.0)):
        mix = dict(zip((a, b), strengths, strict=True))
        rows = {
            how: hidden + hidden @ lmsteer.compose(mix, how=how).matrix()
            for how in ("sum", "product")
        }
        swapped = (
            hidden + hidden @ lmsteer.compose(dict(reversed(mix.items())), how="product").matrix()
        )
        table.append(
            {
                "strengths": strengths,
                "kl_sum_to_base": kl(head, rows["sum"], hidden),
                "kl_product_to_sum": kl(head, rows["product"], rows["sum"]),
                "kl_product_to_product_in_the_other_order": kl(head, rows["product"], swapped),
            }
        )
    grid = (-3.0, -1.5, 0.0, 1.5, 3.0)
    pairs = [(x, y) for y in grid for x in grid]
    records = lmsteer.generate(
        model,
        tokenizer,
        prompts,
        strengths=[{a: x, b: y} for x, y in pairs],
        samples=2,
        max_new_tokens=24,
        top_p=0.9,
        batch_size=256,
    )
    scorers = {"sentiment": load_scorer("sentiment"), "asks politely": polite}
    measured = {}
    for x, y in pairs:
        part = [r for r in records if r.strengths == {a.name: x, b.name: y}]
        measured[x, y] = measure(model, tokenizer, part, scorers, worst=False)
    shown = [*scorers, "perplexity"]
    grid_figure(out / "grid.png", (a.name, b.name), grid, measured, shown)
    told = {
        "cosine": lmsteer.interference(a, b),
        "positions": len(hidden),
        "sum_and_product": table,
        "texts_a_pair": len(records) // len(pairs),
        "grid": [
            {a.name: x, b.name: y, **{n: round(row[n].value, 4) for n in shown}}
            for (x, y), row in measured.items()
        ],
    }
    (out / "results.json").write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps({k: v for k, v in told.items() if k != "grid"}, indent=1))


POLITE = ("please", "thank", "would you", "could you", "may i", "kindly", "sorry", "appreciate")


def polite(texts):
    """1 where a text holds a polite phrase, -1 elsewhere."""
    import numpy as np

    return np.array([1.0 if any(p in t.lower() for p in POLITE) else -1.0 for t in texts])


if __name__ == "__main__":
    main()
