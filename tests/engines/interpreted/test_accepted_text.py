"""What speculative decoding accepts is distributed as the steered model's text.

The drafts are the base model's, as a draft model's would be: it knows nothing of steers. The model
is a Markov chain, so how often each token follows each other one says all there is to say about
its text. 100,000 tokens take half an hour under Triton's interpreter, so that test is a slow one.
"""

import numpy as np
import pytest
import torch
from by_hand import VOCAB, Runner, change, tables
from scipy.stats import chi2

DRAFTS, MOST = 3, 20
MIXES = [{}, {"one": 3.0}, {"one": -2.5, "two": 1.5}, {"two": -4.0}, {"one.domain": 3.0}]


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


class Texts:
    """Texts under way, and how often each token followed each other: by mix and temperature."""

    def __init__(self, runner, told, base, rng):
        self.runner, self.told, self.base, self.rng = runner, told, base, rng
        self.live, self.born = {}, 0
        self.counts = np.zeros((len(MIXES), 2, VOCAB, VOCAB))
        self.accepted = self.drafted = self.written = 0

    def renew(self):
        """Long texts end, and new ones take their place."""
        ended = [name for name, text in self.live.items() if len(text) > 200]
        self.runner.end(ended)
        new = []
        for name in ended:
            del self.live[name]
        while len(self.live) < MOST:
            name, text = str(self.born), [int(self.rng.integers(VOCAB))]
            mix, options = MIXES[self.born % 5], {"temperature": heat(name)}
            new.append((name, list(text), list(text), mix, options))
            self.live[name] = text
            self.born += 1
        self.runner.admit(new)

    def propose(self, name):
        """Drafts, from the base model: by chance where it tells the odds, else its likeliest."""
        chain = [self.live[name][-1]]
        for _ in range(DRAFTS):
            logits = self.base[chain[-1]]
            if self.told:
                logits = logits / heat(name) + self.rng.gumbel(size=VOCAB)
            chain.append(int(logits.argmax()))
        slot = self.runner.req_states.req_id_to_index[name]
        self.runner.draft_logits[slot] = torch.from_numpy(self.base[chain[:-1]])
        return chain[1:]

    def write(self):
        drafts = {n: self.propose(n) for n, text in self.live.items() if len(text) > 1}
        scheduled = {name: 1 + len(drafts.get(name, [])) for name in self.live}
        step = self.runner.run_step(scheduled, drafts)
        for i, name in enumerate(step.batch.req_ids):
            text, kind = self.live[name], (int(name) % 5, int(name) % 2)
            kept = step.output.sampled_token_ids[i, : int(step.sampled[i])].tolist()
            for token in kept:
                self.counts[kind][text[-1], token] += 1
                text.append(token)
            self.written += len(kept)
            if name in drafts:
                self.accepted += len(kept) - 1
                self.drafted += DRAFTS


def heat(name):
    return 0.7 if int(name) % 2 else 1.0


def judge(counts, mixes, table, head, steers):
    """How likely counts as odd as these are under a model at these strengths."""
    statistic = freedom = 0.0
    for k, mix in enumerate(mixes):
        after = table.double() + table.double() @ change(steers, mix)
        for odd in (0, 1):
            scores = after @ head.double().T / heat(odd)
            found = chi_square(counts[k, odd], torch.softmax(scores, dim=-1).numpy())
            statistic, freedom = statistic + found[0], freedom + found[1]
    p = float(chi2.sf(statistic, freedom))
    return p, f"chi-square {statistic:.0f} at {freedom:.0f} degrees of freedom, p = {p:.3g}"


@pytest.mark.parametrize(
    ("method", "told", "draws"),
    [
        ("standard", True, 1000),
        *(
            pytest.param(method, told, 100_000, marks=pytest.mark.slow)
            for method, told in (("standard", True), ("block", True), ("standard", False))
        ),
    ],
)
def test_accepted_text_is_the_steered_models(steers, method, told, draws):
    table, head = tables()
    runner = Runner(table, head, drafts=DRAFTS, most=MOST, length=256, tokens=128, method=method)
    if not told:  # as where drafts are copied from the text
        runner.speculator.draft_logits = None
    np.random.seed(7)  # noqa: NPY002 (vLLM draws the seeds of requests from it)
    texts = Texts(runner, told, (table @ head.T).numpy(), np.random.default_rng(7))
    while texts.written < draws:
        texts.renew()
        texts.write()
    share = texts.accepted / texts.drafted
    print(f"{method}, odds of drafts told: {told}; {texts.written} tokens, {share:.2f} accepted")
    p_steered, steered = judge(texts.counts, MIXES, table, head, steers)
    p_base, base = judge(texts.counts, [{}] * len(MIXES), table, head, steers)
    print(f"against the steered model {steered}; against the base {base}")
    assert 0.1 < share < 0.95
    assert p_steered > 1e-3
    assert p_base < 1e-4
