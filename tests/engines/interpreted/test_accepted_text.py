"""What speculative decoding accepts is distributed as the steered model's text.

The drafts are the base model's, as a draft model's would be: it knows nothing of steers. The model
is a Markov chain, so how often each token follows each other one says all there is to say.
"""

import numpy as np
import pytest
import torch
from by_hand import VOCAB, Runner, change, tables
from scipy.stats import chi2

DRAFTS, MOST = 3, 20
MIXES = [{}, {"one": 3.0}, {"one": -2.5, "two": 1.5}, {"two": -4.0}, {"one.domain": 3.0}]


def draw(logits, rng):
    return int(np.argmax(logits + rng.gumbel(size=VOCAB)))


def propose(base, last, temperature, told, rng):
    """Drafts after a token, from the base model; where `told`, by chance, else its likeliest."""
    drafts = []
    for _ in range(DRAFTS):
        logits = base[last]
        last = draw(logits / temperature, rng) if told else int(logits.argmax())
        drafts.append(last)
    return drafts


def chi_square(counts, probabilities):
    """Of tokens that follow each other; cells of fewer than 5 expected are taken together."""
    statistic = freedom = 0.0
    for row, p in zip(counts, probabilities, strict=True):
        expected = row.sum() * p
        small = expected < 5
        cells = [(row[i], expected[i]) for i in np.flatnonzero(~small)]
        if small.any() and expected[small].sum() >= 1:
            cells.append((row[small].sum(), expected[small].sum()))
        statistic += sum((found - wanted) ** 2 / wanted for found, wanted in cells)
        freedom += max(0, len(cells) - 1)
    return statistic, freedom


@pytest.mark.parametrize("draws", [1000, pytest.param(100_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("method", "told"), [("standard", True), ("block", True), ("standard", False)]
)
def test_accepted_text_is_the_steered_models(steers, method, told, draws):
    table, head = tables()
    runner = Runner(
        table, head, drafts=DRAFTS, most=MOST, length=256, tokens=128, method=method
    )
    if not told:  # as where drafts are copied from the text
        runner.speculator.draft_logits = None
    rng = np.random.default_rng(7)
    np.random.seed(7)
    base = (table @ head.T).numpy()
    counts = np.zeros((len(MIXES), 2, VOCAB, VOCAB))
    texts, born, accepted, drafted, written = {}, 0, 0, 0, 0
    while written < draws:
        ended = [name for name, text in texts.items() if len(text) > 200]
        runner.end(ended)
        for name in ended:
            del texts[name]
        new = []
        while len(texts) < MOST:
            texts[born] = [int(rng.integers(VOCAB))]
            new.append((str(born), texts[born], list(texts[born]), MIXES[born % 5], heat(born)))
            born += 1
        texts = {str(name): text for name, text in texts.items()}
        runner.admit(new)
        scheduled, drafts = {}, {}
        for name, text in texts.items():
            scheduled[name] = 1
            if len(text) > 1:
                temperature = heat(int(name))["temperature"]
                drafts[name] = propose(base, text[-1], temperature, told, rng)
                scheduled[name] += DRAFTS
                slot, before = runner.req_states.req_id_to_index[name], [text[-1], *drafts[name]]
                runner.draft_logits[slot] = torch.from_numpy(base[before[:DRAFTS]])
        step = runner.run_step(scheduled, drafts)
        for i, name in enumerate(step.batch.req_ids):
            kept = step.output.sampled_token_ids[i, : int(step.sampled[i])].tolist()
            text, kind = texts[name], (int(name) % 5, int(name) % 2)
            for token in kept:
                counts[kind][text[-1], token] += 1
                text.append(token)
            if name in drafts:
                accepted, drafted = accepted + len(kept) - 1, drafted + DRAFTS
            written += len(kept)
    truth = {"steered": MIXES, "base": [{}] * 5}
    p = {}
    for what, mixes in truth.items():
        total = [0.0, 0.0]
        for k, mix in enumerate(mixes):
            after = table.double() + table.double() @ change(steers, mix)
            for odd in (0, 1):
                scores = after @ head.double().T / heat(odd)["temperature"]
                found = chi_square(counts[k, odd], torch.softmax(scores, dim=-1).numpy())
                total = [total[0] + found[0], total[1] + found[1]]
        p[what] = float(chi2.sf(*total))
        print(f"{method}, drafts told: {told}; {written} tokens, {accepted} of {drafted} drafts "
              f"accepted; against the {what} model chi-square {total[0]:.0f} at {total[1]:.0f} "
              f"degrees of freedom, p = {p[what]:.3g}")
    assert 0.1 < accepted / drafted < 0.95
    assert p["steered"] > 1e-3
    assert p["base"] < 1e-4


def heat(number):
    return {"temperature": 0.7 if number % 2 else 1.0}

