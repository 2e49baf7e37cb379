"""Do words still mean anything? Directions of a steer at either site, and words steered alone.

python -m experiments.input_vs_output.words --data ../shared/data --work WORK

`directions`: of the input steer `in` and the shipped output steer `sentiment`, the first three
singular directions. All whole words (`lmsteer.interpretation.directions`) are laid along what is
read (P's side) and what is written (Q's); the share of the 20 words at either end that are in the
opinion lexicon (of Hu and Liu), against the share of all these words (chance), and the AUC of
telling the lexicon's positive words from its negative ones. The sign is such that, at positive
strength, what is written goes up in the average text. Words that are obscene or that the shipped
toxicity scorer flags count, but are not kept.

`shift`: what the whole steer adds to what it is given (at the input each word's embedding, at the
output each state) in 240 sentences of SST dev: the share of it, by squared length, that is the same
vector everywhere (`constant`), and how well that vector tells the lexicon's two sides apart.

`alone`: of the input steer, P(good words) - P(bad words) after "The film was {word}. Overall it
was" when the word's own embedding is steered and nothing else, less what it is unsteered; 60 words
of either side of the lexicon and 60 of neither. To compare with: the word "film" alone, and every
position. `length` is how far the steer moves a word's embedding at strength 1, relative to it. An
output steer has no such reading: it acts where the next word is picked.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

import lmsteer
from experiments.input_vs_output.reading import lexicon, review_prompts, single
from experiments.input_vs_output.setting import arguments, keep, steered, steers
from lmsteer import Steer
from lmsteer.interpretation.words import directions
from lmsteer.metrics.scorers import load_scorer
from lmsteer.model.reading import read_hidden
from lmsteer.model.tables import input_tables
from lmsteer.text.batch import padded
from lmsteer.text.encoding import prompt_ids

COUNT, ENDS, EACH = 3, 20, 60
FRAME = ("The film was", " {}", ". Overall it was")
STRENGTHS = (-2.0, 2.0)
Lexicon = Mapping[str, bool]


@torch.no_grad()
def given(steer: Steer, model: Any, tokenizer: Any, texts: Sequence[str]) -> torch.Tensor:
    """``(tokens, dim)`` of what the steer is given in these texts."""
    ids, mask = padded(prompt_ids(tokenizer, texts), 0)
    if steer.site == "input":
        rows: torch.Tensor = input_tables(model)[0](ids)
    else:
        rows = read_hidden(model, input_ids=ids, attention_mask=mask)
    return rows[mask.bool()].float()


def shift(steer: Steer, model: Any, tokenizer: Any, rows: torch.Tensor, sides: Any) -> Any:
    """How much of the steer's change is one vector, and what that vector says."""
    change = (rows @ steer.P) @ steer.Q.T
    mean = change.mean(0)
    table = input_tables(model)[0] if steer.site == "input" else model.get_output_embeddings()
    good, bad = ((table.weight.detach()[ids].float() @ mean).tolist() for ids in sides)
    return {
        "constant": float(mean.square().sum() / change.square().sum(-1).mean()),
        "auc": float(roc_auc_score([1] * len(good) + [0] * len(bad), good + bad)),
    }


def along(
    steer: Steer,
    model: Any,
    tokenizer: Any,
    rows: torch.Tensor,
    opinion: Lexicon,
    unsaid: Callable[[str], bool],
) -> list[dict[str, Any]]:
    """Each direction's sides against the lexicon."""
    found = []
    left = steer.svd()[0][:, :COUNT].float()
    # So many words that all of them are given, not the ends alone.
    for direction, component in zip(
        directions(model, tokenizer, steer, count=COUNT, words=10**6), (rows @ left).T, strict=True
    ):
        constant = component.mean() ** 2 / component.square().mean()
        row: dict[str, Any] = {"share": direction.share, "constant": float(constant)}
        # At the output site it is chosen already.
        sign = -1 if steer.site == "input" and component.mean() < 0 else 1
        for side, (scored, _) in (("reads", direction.reads), ("writes", direction.writes)):
            known = [(opinion[w.lower()], s) for w, s in scored if w.lower() in opinion]
            auc = float(roc_auc_score([k for k, _ in known], [s for _, s in known]))
            order = [w.lower() for w, _ in scored][::sign]
            row[side] = {
                "auc": auc if sign > 0 else 1 - auc,
                "chance": np.mean([w in opinion for w in order]).item(),
                "words": len(order),
            }
            for end, words in (("high", order[:ENDS]), ("low", order[: -ENDS - 1 : -1])):
                row[side][end] = {
                    "lexicon": np.mean([w in opinion for w in words]).item(),
                    "positive": np.mean([opinion.get(w, False) for w in words]).item(),
                    "words": [w for w in words if not unsaid(w)],
                }
        found.append(row)
    return found


@torch.no_grad()
def feeling(model: Any, ids: torch.Tensor, words: tuple[list[int], list[int]]) -> np.ndarray:
    """``(rows,)`` of P(good) - P(bad) for the next token."""
    last = model(input_ids=ids).logits[:, -1].float().softmax(-1)
    return (last[:, words[0]].sum(-1) - last[:, words[1]].sum(-1)).double().numpy()


def alone(
    model: Any,
    tokenizer: Any,
    steer: Steer,
    classes: Mapping[str, Sequence[int]],
    words: tuple[list[int], list[int]],
) -> dict[str, Any]:
    """Mean change of the reading by class of the word, and by what is steered."""
    start, end = prompt_ids(tokenizer, [FRAME[0]])[0], FRAME[2]
    rest = tokenizer(end, add_special_tokens=False)["input_ids"]
    film = tokenizer(" film", add_special_tokens=False)["input_ids"]
    places = {"the word": [len(start)], "film": [start.index(film[0])]}
    places["all"] = list(range(len(start) + 1 + len(rest)))
    table = input_tables(model)[0].weight.detach()
    found: dict[str, Any] = {}
    for name, members in classes.items():
        ids = torch.tensor([[*start, number, *rest] for number in members])
        base = feeling(model, ids, words)
        rows = table[list(members)]
        moved = ((rows @ steer.P) @ steer.Q.T).norm(dim=-1) / rows.norm(dim=-1)
        found[name] = {"unsteered": float(base.mean()), "length": float(moved.mean())}
        for place, columns in places.items():
            mask = torch.zeros_like(ids, dtype=torch.bool)
            mask[:, columns] = True
            for strength in STRENGTHS:
                with steered(model, steer, strength, where=mask):
                    change = feeling(model, ids, words) - base
                found[name][f"{place} {strength:+g}"] = {
                    "mean": float(change.mean()),
                    "error": float(1.96 * change.std() / len(change) ** 0.5),
                    "size": float(np.abs(change).mean()),
                }
    return found


def main() -> None:
    """Run from the command line."""
    args = arguments(__doc__)
    model, tokenizer = lmsteer.load_model("bundled")
    lists = args.data / "lexicons"
    sides = {n: lexicon(lists / f"{n}-words.txt") for n in ("positive", "negative")}
    # Some words are on both lists.
    both = set(sides["positive"]) & set(sides["negative"])
    opinion = {w: n == "positive" for n, words in sides.items() for w in words if w not in both}
    obscene, toxic = {*lexicon(lists / "ldnoobw_en.txt")}, load_scorer("toxicity")

    def unsaid(word: str) -> bool:
        return word in obscene or toxic([word])[0] > 0

    good, bad = (single(tokenizer, sides[n]) for n in ("positive", "negative"))
    texts = review_prompts(args.data)[0]
    found = steers(args.work, model, ["in", "sentiment"])
    result: dict[str, Any] = {"directions": {}, "shift": {}}
    for name, steer in found.items():
        rows = given(steer, model, tokenizer, texts)
        result["shift"][name] = shift(steer, model, tokenizer, rows, (good, bad))
        result["directions"][name] = along(steer, model, tokenizer, rows, opinion, unsaid)
        print(name, result["shift"][name])
    for name, parts in result["directions"].items():
        for row in parts:
            print(name, f"{row['share']:.2f}", row["reads"], row["writes"], flush=True)
    whole = directions(model, tokenizer, found["in"], count=1, words=10**6)[0].reads[0]
    neither = sorted({w for w, _ in whole if w.islower() and w not in opinion} - both - obscene)
    kinds = {
        "positive": [w for w, good in opinion.items() if good],
        "negative": [w for w, good in opinion.items() if not good and w not in obscene],
        "neither": neither,
    }
    classes = {
        kind: random.Random(0).sample(single(tokenizer, words), EACH)
        for kind, words in kinds.items()
    }
    result["alone"] = alone(model, tokenizer, found["in"], classes, (good, bad))
    for kind, row in result["alone"].items():
        print(kind, row, flush=True)
    keep("words", result, frame="".join(FRAME), each=EACH)


if __name__ == "__main__":
    main()
