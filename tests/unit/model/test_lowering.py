"""A pass in bf16: converted once, close to float32, and the model is then bitwise its own."""

import threading

import pytest
import torch
from families import FAMILIES

import lmsteer
from lmsteer.model import (
    alone,
    attach,
    autocast,
    decoder_start,
    evaluating,
    fingerprint,
    lowered,
    read_hidden,
)
from lmsteer.states import read_states
from lmsteer.text.encoding import encode

CPU = torch.device("cpu")
IDS = torch.arange(5, 77).view(3, 24)


@pytest.fixture(autouse=True)
def bf16(monkeypatch):
    """As on a processor that multiplies bf16; others compute it too, only slowly."""
    for module in ("model.lowering", "model.modes", "states.hidden"):
        monkeypatch.setattr(f"lmsteer.{module}.fast_dtype", lambda device: torch.bfloat16)


def snapshot(model):
    return {
        name: (id(weight), weight.data_ptr(), weight._version, weight.clone())
        for name, weight in model.named_parameters()
    }


def assert_same(before, after):
    assert before.keys() == after.keys()
    for name, (*facts, values) in before.items():
        assert facts == list(after[name][:-1]), name
        assert torch.equal(values, after[name][-1]), name


def test_a_model_is_bitwise_its_own_after_each_block(model):
    before, mark = snapshot(model), fingerprint(model)
    block = lowered(model, CPU, True)
    assert_same(before, snapshot(model))
    for _ in range(2):
        with torch.inference_mode(), block():
            kinds = {weight.dtype for weight in model.parameters()}
            assert kinds == {torch.float32, torch.bfloat16}  # the tables are not copied
        assert_same(before, snapshot(model))
    with pytest.raises(KeyError), block():
        raise KeyError
    assert_same(before, snapshot(model))
    assert torch.equal(mark.sketch, fingerprint(model).sketch)


@pytest.mark.parametrize("name", FAMILIES)
def test_states_are_near_those_of_float32(name):
    model = FAMILIES[name].build()
    given = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}
    if decoder_start(model) is not None:
        given["decoder_input_ids"] = IDS
    with evaluating(model), torch.inference_mode():
        exact = read_hidden(model, **given)
        with autocast(CPU, True), lowered(model, CPU, True)():
            found = read_hidden(model, **given)
    error = (found.float() - exact).norm() / exact.norm()
    assert 1e-5 < error < 0.03  # bf16 has steps of 1 / 128


def test_a_model_that_is_not_in_float32_is_left_as_it_is(llama):
    half = llama.to(torch.bfloat16)
    before = snapshot(half)
    with lowered(half, CPU, True)():
        assert_same(before, snapshot(half))


def test_steers_at_the_input_act_in_the_pass(llama, tokenizer, examples):
    steer = lmsteer.Steer(torch.randn(32, 4) * 0.3, torch.randn(32, 4) * 0.3, "s", "input")
    encoded = encode(tokenizer, examples, max_length=64)
    plain, exact = read_states(llama, encoded).hidden, {}
    for fast in (False, True):
        with attach(llama, {steer: 1.0}):
            around = read_states(llama, encoded, fast=fast).hidden.float()
        within = read_states(
            llama, encoded, fast=fast, within=lambda batch: attach(llama, {steer: 1.0})
        ).hidden.float()
        assert torch.equal(around, within)
        exact[fast] = around
    moved = (exact[False] - plain).norm()
    assert (exact[True] - exact[False]).norm() < 0.1 * moved


def test_other_threads_wait_for_a_block(llama):
    free = []

    def other():
        lock = alone(llama)
        got = lock.acquire(blocking=False)
        free.append(got)
        if got:
            lock.release()

    def ask():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    block = lowered(llama, CPU, True)
    with block():
        ask()
    ask()
    assert free == [False, True]


def test_what_is_to_stay_in_float32_stays(llama, monkeypatch):
    monkeypatch.setattr(llama, "_keep_in_fp32_modules_strict", {"o_proj"}, raising=False)
    with lowered(llama, CPU, True)():
        for name, weight in llama.model.layers.named_parameters():
            exact = "o_proj" in name
            assert weight.dtype == (torch.float32 if exact else torch.bfloat16), name


@pytest.mark.parametrize("name", FAMILIES)
def test_fast_text_is_written_in_bf16_and_the_model_left_alone(name, tokenizer):
    """Trunk, head and tables; the first scores are those of float32 up to bf16's rounding."""
    model = FAMILIES[name].build()
    before, seen = snapshot(model), []
    model.get_output_embeddings().register_forward_hook(lambda m, i, out: seen.append(out.clone()))
    dim = model.get_output_embeddings().weight.shape[1]
    steer = lmsteer.Steer(torch.randn(dim, 4) * 0.1, torch.randn(dim, 4) * 0.1)
    for fast in (False, True):
        (record,) = lmsteer.generate(
            model,
            tokenizer,
            "it is",
            strengths={steer: 1.0},
            max_new_tokens=5,
            min_new_tokens=5,
            temperature=0,
            fast=fast,
        )
        assert record.text
    plain, quick = seen[0], seen[len(seen) // 2]
    assert (plain.dtype, quick.dtype) == (torch.float32, torch.bfloat16)
    assert (quick.float() - plain).abs().max() < 0.05 * plain.abs().max()
    assert_same(before, snapshot(model))
