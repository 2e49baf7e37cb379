"""Half precision, extreme strengths, quantised bases, compiled models."""

import contextlib
import copy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import build

import lmsteer
from lmsteer.errors import InputError
from lmsteer.model.reading import read_hidden

IDS = torch.arange(5, 25).view(2, 10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_each_dtype_is_as_near_to_the_formula_as_its_own_rounding(model, steer, dtype):
    model = copy.deepcopy(model).to(dtype)
    rows = read_hidden(model, input_ids=IDS)
    with lmsteer.attach(model, {steer: 1.5}):
        found = model(IDS).logits.double()
    changed = rows.double() + 1.5 * rows.double() @ steer.matrix().double()
    exact = copy.deepcopy(model).double()
    truth = exact.get_output_embeddings()(changed)
    naive = model.get_output_embeddings()(changed.to(dtype)).double()
    scale = getattr(model.config, "logits_scaling", 1.0)
    cap = getattr(model.config, "final_logit_softcapping", None)

    def finish(scores):
        scores = scores / scale
        return scores if cap is None else cap * torch.tanh(scores / cap)

    truth, naive = finish(truth), finish(naive)
    error, floor = (found - truth).abs().max(), (naive - truth).abs().max()
    assert error <= 4 * floor + 2 * torch.finfo(dtype).eps * truth.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("strength", [-100.0, 100.0])
def test_extreme_strengths_give_finite_scores_or_an_error(model, steer, dtype, strength):
    model = copy.deepcopy(model).to(dtype)
    with (
        lmsteer.attach(model, {steer: strength}),
        contextlib.suppress(InputError) if dtype == torch.float16 else contextlib.nullcontext(),
    ):
        assert torch.isfinite(model(IDS).logits).all()


def test_float16_overflow_is_an_error_that_says_what_to_do(steer):
    model = build("gpt2").half()
    with (
        lmsteer.attach(model, {steer: 1e6}),
        pytest.raises(InputError, match=r"float16.*bfloat16"),
    ):
        model(IDS)


@pytest.mark.parametrize("site", ["output", "input"])
@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
def test_compiled_models_are_steered_and_released(site, backend):
    """In a process of its own: the compiler does not get past the shape checks of the tests."""
    if backend == "inductor" and not shutil.which("g++"):
        pytest.skip("no C++ compiler")
    script = Path(__file__).parents[1] / "compiled.py"
    subprocess.run([sys.executable, script, site, backend], check=True)


@pytest.mark.filterwarnings("ignore")
def test_compiled_models_train(llama, tokenizer, examples):
    plain = lmsteer.train(llama, tokenizer, examples, calibrate=False)
    torch._dynamo.reset()
    compiled = torch.compile(llama, backend="eager")
    steer = lmsteer.train(compiled, tokenizer, examples, calibrate=False)
    assert (plain.matrix() - steer.matrix()).norm() < 1e-3 * plain.matrix().norm()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("head_too", [False, True])
def test_torchao_int8_bases(tokenizer, examples, steer, head_too):
    quantization = pytest.importorskip("torchao.quantization")
    model = build("llama-untied")
    exact = copy.deepcopy(model)

    def wanted(module, name):
        return isinstance(module, torch.nn.Linear) and (head_too or "lm_head" not in name)

    quantization.quantize_(model, quantization.Int8WeightOnlyConfig(), filter_fn=wanted)
    trains_and_steers_like(exact, model, steer, tokenizer, examples)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("head_too", [False, True])
def test_bitsandbytes_int8_bases(tokenizer, examples, steer, head_too):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    model = build("llama-untied")
    exact = copy.deepcopy(model)
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear) and (head_too or "lm_head" not in name):
            small = bitsandbytes.nn.Linear8bitLt(
                module.in_features, module.out_features, bias=False, has_fp16_weights=False
            )
            small.load_state_dict(module.state_dict())
            owner, _, last = name.rpartition(".")
            setattr(model.get_submodule(owner), last, small.to("cpu"))
    trains_and_steers_like(exact, model, steer, tokenizer, examples)


def trains_and_steers_like(exact, model, steer, tokenizer, examples):
    learned = lmsteer.train(model, tokenizer, examples, calibrate=False)
    assert learned.record["held_out"]["nll"] < learned.record["held_out"]["nll_base"]
    with lmsteer.attach(model, {steer: 1.0}), torch.no_grad():
        found = model(IDS).logits
    with lmsteer.attach(exact, {steer: 1.0}):
        truth = exact(IDS).logits
    assert (found - truth).norm() < 0.1 * truth.norm()
