"""Runner V2 of vLLM, driven step by step by hand, against the formula in float64."""

import collections

import numpy as np
import pytest
import torch
from by_hand import VOCAB, Runner, change, tables
from vllm import SamplingParams
from vllm.exceptions import VLLMValidationError
from vllm.v1.worker.gpu.sample.logits_processor import (
    build_custom_logits_processors_params_validator,
)

from lmsteer.engines.vllm import PROCESSORS
from lmsteer.errors import InputError, UnsupportedError

MIXES = [{}, {"one": 2.0}, {"one": -1.5, "two": 1.0}, {"two": -2.5}, {"one.domain": 1.0}]


class Request:
    """What the maker of steps knows of a request, by itself."""

    def __init__(self, prompt, mix, options):
        self.prompt, self.mix, self.options = prompt, mix, options
        self.tokens, self.computed, self.read = list(prompt), 0, len(prompt)


class Maker:
    """Steps at random: requests that come, end, lose their place, are read in stretches, draft."""

    def __init__(self, runner, drafts, seed, room=64):
        self.runner, self.drafts, self.room = runner, drafts, room
        self.rng = np.random.default_rng(seed)
        np.random.seed(seed)  # noqa: NPY002 (vLLM draws the seeds of requests from it)
        self.live, self.waiting, self.born = {}, [], 0
        self.seen = collections.Counter()

    def change_batch(self):
        rng = self.rng
        done = [n for n, r in self.live.items() if len(r.tokens) > 40 or rng.random() < 0.06]
        lost = [n for n in self.live if n not in done and rng.random() < 0.05]
        self.runner.end(done, lost)
        self.waiting += [(name, self.live.pop(name)) for name in lost]
        for name in done:
            del self.live[name]
        self.seen.update(ended=len(done), preempted=len(lost))
        while len(self.live) + len(self.waiting) < 5 and rng.random() < 0.7:
            self.waiting.append((f"r{self.born}", self.new_request()))
            self.born += 1
        for _, r in self.waiting:  # those who lost their place read what they wrote as well
            r.computed, r.read = 0, len(r.tokens)
        if self.waiting:
            self.runner.admit([(n, r.prompt, r.tokens, r.mix, r.options) for n, r in self.waiting])
        self.live |= dict(self.waiting)
        self.waiting = []

    def new_request(self):
        rng = self.rng
        prompt = rng.integers(0, VOCAB, rng.integers(2, 12)).tolist()
        options = {"temperature": float(rng.choice([0.0, 1.0, 0.7]))}
        if rng.random() < 0.5:
            options["prompt_logprobs"] = -1
        if rng.random() < 0.3:
            ids = np.tile(np.arange(VOCAB), (len(prompt) - 1, 1))
            options["prompt_logprob_token_ids"] = ids
        return Request(prompt, MIXES[self.born % len(MIXES)], options)

    def schedule(self):
        """Tokens of each request, and its drafts: a stretch to be read, or one token and drafts."""
        rng, scheduled, proposed, left = self.rng, {}, {}, self.room
        for name in rng.permutation(list(self.live)).tolist():
            r, drafts = self.live[name], []
            if r.computed < r.read:
                count = int(min(rng.integers(1, 7), r.read - r.computed))
                self.seen["stretches"] += count < r.read - r.computed
            else:
                drafts = rng.integers(0, VOCAB, rng.integers(0, self.drafts + 1)).tolist()
                count = 1 + len(drafts)
            if count <= left and rng.random() >= 0.1:
                scheduled[name], left = count, left - count
                if drafts:
                    proposed[name] = drafts
        return scheduled, proposed

    def take(self, step, scheduled, proposed):
        """What was written becomes part of the text."""
        for i, name in enumerate(step.batch.req_ids):
            r, count, drafts = self.live[name], int(step.sampled[i]), proposed.get(name, [])
            kept = step.output.sampled_token_ids[i, :count].tolist()
            if r.computed + scheduled[name] < r.read:
                assert count == 0
            assert kept[:-1] == drafts[: max(0, count - 1)]
            r.computed += scheduled[name] - int(step.rejected[i])
            r.tokens += kept
            self.seen.update(drafts=len(drafts), accepted=max(0, count - 1))


@pytest.mark.parametrize(
    ("drafts", "dtype"), [(0, torch.float32), (3, torch.float32), (3, torch.bfloat16)]
)
def test_every_row_finds_its_request(steers, drafts, dtype):
    table, head = tables(dtype)
    runner = Runner(table, head, drafts=drafts, most=5, length=64, tokens=64)
    maker = Maker(runner, drafts, seed=drafts)
    for _ in range(45):
        maker.change_batch()
        scheduled, proposed = maker.schedule()
        if not scheduled:
            continue
        step = runner.run_step(scheduled, proposed)
        check_rows(step, maker, scheduled, proposed, table, steers)
        check_prompts(step, maker, runner.model, steers)
        maker.take(step, scheduled, proposed)
    seen = maker.seen
    print(dict(seen))
    kinds = ("ended", "preempted", "stretches", "base", "steered", "prompts", "chosen")
    assert all(seen[kind] for kind in kinds)
    assert bool(seen["drafts"]) == bool(drafts)
    if drafts:
        assert 0 < seen["accepted"] < seen["drafts"]


def test_the_head_is_steered_in_the_runners_own_steps_alone(steers):
    """So neither a model that writes drafts with the same layer, nor a run that warms up."""
    table, head = tables()
    runner = Runner(table, head, most=5, length=64, tokens=64)
    runner.admit([("a", [1, 2], [1, 2], {"one": 2.0}, {})])
    runner.run_step({"a": 2}, {})
    runner.model.given.clear()
    runner.model.compute_logits(table)
    assert torch.equal(runner.model.given[0], table)


def test_a_head_of_another_kind_is_an_error_not_a_silence(steers):
    table, head = tables()
    runner = Runner(table, head, most=5, length=64, tokens=64)
    runner._dummy_sampler_run(table[:2])
    runner.model.compute_logits = lambda hidden: hidden @ head.T
    with pytest.raises(UnsupportedError, match="LogitsProcessor layer"):
        runner._dummy_sampler_run(table[:2])  # when vLLM measures its memory, at start
    runner.admit([("a", [1, 2], [1, 2], {}, {"prompt_logprobs": 1})])
    runner.run_step({"a": 2}, {})  # nobody asks for a steer
    runner.admit([("b", [1, 2], [1, 2], {"one": 2.0}, {})])
    with pytest.raises(UnsupportedError, match="LogitsProcessor layer"):
        runner.run_step({"b": 2}, {})


def test_bad_requests_and_engines_without_steers(steers, monkeypatch):
    second = PROCESSORS[True]
    check = build_custom_logits_processors_params_validator([second])
    check(SamplingParams(extra_args={"steer": {"one": 1.0}}))
    check(SamplingParams())
    for bad in ("one", {"nobody": 1}, "one=nan", {"one": "\x1b[31m"}):
        with pytest.raises(VLLMValidationError) as caught:
            check(SamplingParams(extra_args={"steer": bad}))
        assert str(caught.value).isprintable()
    monkeypatch.delenv("LMSTEER_STEERS")
    with pytest.raises(InputError, match="no steers: name them"):
        Runner(*tables())


def check_rows(step, maker, scheduled, proposed, table, steers):
    """Each row that the head was given, its request found by what was scheduled alone."""
    (rows,) = step.rows
    bound, start = (1e-5 if table.dtype == torch.float32 else 0.02), 0
    for name in step.batch.req_ids:
        r, drafts = maker.live[name], proposed.get(name, [])
        text = (r.tokens + drafts)[r.computed : r.computed + scheduled[name]]
        plain = table[text[-1 - len(drafts) :]]
        found, start = rows[start : start + len(plain)], start + len(plain)
        if not r.mix:
            assert torch.equal(found, plain)
            maker.seen["base"] += 1
            continue
        truth = plain.double() + plain.double() @ change(steers, r.mix)
        assert torch.allclose(found.double(), truth, rtol=bound, atol=bound)
        maker.seen["steered"] += 1
    assert start == len(rows)


def check_prompts(step, maker, model, steers):
    """Prompts' log-probs, of requests whose prompt was read to its end in this step."""
    bound = 1e-4 if model.table.dtype == torch.float32 else 0.1
    for name, result in step.prompts.items():
        r = maker.live[name]
        truth = model.log_probs(change(steers, r.mix))[r.prompt[:-1]]
        ids, values = result.logprob_token_ids[:, 1:].long(), result.logprobs[:, 1:].double()
        assert (values - truth.gather(1, ids)).abs().max() <= bound
        maker.seen["prompts"] += 1
    for name, result in step.chosen.items():
        r = maker.live[name]
        truth = model.log_probs(change(steers, r.mix))[r.prompt[:-1]]
        assert (result.double() - truth).abs().max() <= bound
        maker.seen["chosen"] += 1
