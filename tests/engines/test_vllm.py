"""Stock vLLM with the plugin scores as the hook does, every request at strengths of its own."""

import os
from types import SimpleNamespace

import pytest
import torch
from serving import MIXES, asked, off, row, served
from shapes import SHAPES, build, prompts, steers_for
from vllm import SamplingParams
from vllm.exceptions import VLLMValidationError

import lmsteer
from lmsteer.engines.vllm import PROCESSORS, configure, refuse_unsupported
from lmsteer.errors import InputError, MismatchError, UnsupportedError
from lmsteer.model.identity import fingerprint


@pytest.mark.parametrize("name", SHAPES)
def test_mixed_strengths_score_as_the_hook(name, tmp_path, monkeypatch, matrix):
    model = build(name)
    requests = [(prompt, mix) for prompt in prompts(100) for mix in MIXES]
    # vLLM runs NeoX by transformers' own class, which it rewrites in the process that serves.
    with served(model, tmp_path, monkeypatch, several=name == "GPT-NeoX") as llm:
        worst = off(model, requests, asked(llm, requests))
        print(f"vLLM float32, {name}: {worst:.2g}")
        assert worst <= 1e-3
        some = requests[:40]
        assert off(model, some, asked(llm, some, tokens=8, prompt_logprobs=-1)) <= 1e-3
        matrix["vLLM", f"{name}, float32"] = (
            "within 1e-3, 100 prompts x 5 mixes of strengths in one batch; prompt log-probs too"
        )
        if name == "Llama, tied":
            _requests_that_are_refused(llm)
            matrix["vLLM", "unknown steers, bad strengths"] = "refused, the engine goes on"
            _one_prefix_cache_for_all_strengths(llm)
            matrix["vLLM", "prefix cache"] = "one for all strengths, by hit counts"


def _requests_that_are_refused(llm):
    for bad, message in (
        ({"x": 1}, "served are sentiment, sentiment.domain, detox"),
        ("sentiment", "pairs such as"),
        ({"sentiment": "nan"}, "finite"),
    ):
        params = SamplingParams(max_tokens=1, extra_args={"steer": bad})
        with pytest.raises(VLLMValidationError, match=message):
            llm.generate([{"prompt_token_ids": [5, 6]}], params, use_tqdm=False)
    assert len(asked(llm, [([5, 6], {"detox": 1.0})])) == 1  # the engine lives


def _one_prefix_cache_for_all_strengths(llm):
    prompt = (torch.arange(96) % 200 + 20).tolist()
    llm.reset_prefix_cache()
    first = asked(llm, [(prompt, {})])[0]
    assert first.num_cached_tokens == 0
    later = asked(llm, [(prompt, mix) for mix in MIXES[1:]])
    cached = [output.num_cached_tokens for output in later]
    print("tokens read from the prefix cache at other strengths:", cached, "of", len(prompt))
    assert min(cached) >= 64  # whole blocks, but for the last


@pytest.mark.parametrize(
    ("what", "options"),
    [
        ("chunked prefill", {"max_num_batched_tokens": 16, "max_num_seqs": 8}),
        ("compiled (enforce_eager=False)", {"enforce_eager": False}),
    ],
)
def test_ways_of_running(what, options, tmp_path, monkeypatch, matrix):
    model = build("Llama, tied")
    requests = [(prompt, mix) for prompt in prompts(8, 40) for mix in MIXES]
    with served(model, tmp_path, monkeypatch, **options) as llm:
        worst = off(model, requests, asked(llm, requests, tokens=8, prompt_logprobs=-1))
        print(f"vLLM float32, {what}: {worst:.2g}")
        assert worst <= 1e-3
        matrix["vLLM", what] = "within 1e-3, prompt log-probs too"


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs 2 cores")
@pytest.mark.parametrize(
    ("what", "options"),
    [
        ("tensor parallel, 2 processes", {"tensor_parallel_size": 2}),
        pytest.param(
            "pipeline parallel, 2 processes, compiled",
            {"pipeline_parallel_size": 2, "enforce_eager": False},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_in_parallel(what, options, tmp_path, monkeypatch, matrix):
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0|1")
    model = build("Llama, tied")
    requests = [(prompt, mix) for prompt in prompts(8, 40) for mix in MIXES]
    with served(model, tmp_path, monkeypatch, several=True, **options) as llm:
        worst = off(model, requests, asked(llm, requests, tokens=8))
        print(f"vLLM float32, {what}: {worst:.2g}")
        assert worst <= 1e-3
        matrix["vLLM", what] = "within 1e-3"


def test_input_steers_are_refused_at_start(tmp_path, monkeypatch, matrix):
    model = build("Llama, tied")
    steer = steers_for(model)[1]
    mark = fingerprint(model, "input")
    lmsteer.Steer(steer.P, steer.Q, "read", "input", fingerprint=mark).save(tmp_path / "read")
    with (
        pytest.raises(UnsupportedError, match="acts on the input embeddings"),
        served(model, tmp_path, monkeypatch, steers=f"{tmp_path}/read"),
    ):
        pass
    matrix["vLLM", "steers of the input site"] = "refused at start"


def test_steers_of_another_model_are_refused_at_start(tmp_path, monkeypatch, matrix):
    steer = steers_for(build("Llama, untied"))[1]
    steer.save(tmp_path / "other")
    with (
        pytest.raises(MismatchError, match="other weights"),
        served(build("Llama, tied"), tmp_path, monkeypatch, steers=f"{tmp_path}/other"),
    ):
        pass
    matrix["vLLM", "steers of another model"] = "refused at start, by their fingerprint"


def test_bf16_keeps_its_own_accuracy(tmp_path, monkeypatch, matrix):
    """Against float64: steered is no further off than unsteered vLLM itself, times 1.5."""
    model, tokenizer = lmsteer.load_model("bundled", dtype="bfloat16")
    exact, _ = lmsteer.load_model("bundled", dtype="float64")
    steers = {name: lmsteer.load_steer(name, model) for name in ("sentiment", "detox")}
    for name, steer in steers.items():
        steer.save(tmp_path / f"own-{name}")
    spec = ",".join(f"{tmp_path}/own-{name}" for name in steers)
    given = [tokenizer(text)["input_ids"] for text in lmsteer.read_prompts("bundled:neutral")[:100]]
    mixes = [{}, {"sentiment": 2.0}, {"sentiment": -3.0}, {"detox": 1.0}]
    mixes += [{"sentiment": 1.0, "detox": 1.0}]
    vocab, errors = model.config.vocab_size, []
    with served(model, tmp_path, monkeypatch, dtype="bfloat16", steers=spec) as llm:
        for mix in mixes:
            squares = []
            requests = [(prompt, mix) for prompt in given]
            for prompt, output in zip(given, asked(llm, requests), strict=True):
                truth = _float64(exact, prompt, {steers[k]: mix[k] for k in mix})
                found = row(output.outputs[0].logprobs[0], vocab)
                squares.append((found - truth).square().mean())
            errors.append(float(torch.stack(squares).mean().sqrt()))
    print("vLLM bf16, root mean square error of log-probs against float64:", errors)
    assert len(given) == 100
    assert max(errors) <= 1.5 * errors[0]
    matrix["vLLM", "the bundled model and shipped steers, bfloat16"] = (
        "error against float64 at most 1.5 times the unsteered model's own"
    )


@torch.no_grad()
def _float64(model, tokens, strengths):
    hidden = model.model(input_ids=torch.tensor([tokens])).last_hidden_state[0, -1]
    hidden = hidden + sum(s * hidden @ steer.matrix().double() for steer, s in strengths.items())
    return torch.log_softmax(model.lm_head.weight @ hidden, dim=-1)


def configuration(second, **changes):
    plain = {
        "use_v2_model_runner": second,
        "model_config": SimpleNamespace(runner_type="generate"),
        "parallel_config": SimpleNamespace(enable_batch_sharded_sampling=False),
        "speculative_config": None,
    }
    return SimpleNamespace(**plain | changes)


@pytest.mark.parametrize("second", [False, True])
def test_an_engines_configuration_gets_our_class_beside_others(second, tmp_path, monkeypatch):
    monkeypatch.delenv("LMSTEER_STEERS", raising=False)
    monkeypatch.setattr("lmsteer.engines.requests._SERVED", {})
    model = build("Llama, tied")
    model.save_pretrained(tmp_path / "model")
    steers_for(model)[1].save(tmp_path / "detox")
    own, spec = ["theirs:Own"], f"{tmp_path}/detox"

    def engine(extra):
        parts = SimpleNamespace(
            model=str(tmp_path / "model"), revision=None, runner_type="generate",
            logits_processors=own,
        )  # fmt: skip
        return configuration(second, model_config=parts, additional_config=extra)

    steered = engine({"lmsteer": spec})
    for _ in range(2):  # twice is once
        configure(steered)
        assert steered.model_config.logits_processors == [*own, PROCESSORS[second]]
    with pytest.raises(InputError, match="already"):
        configure(engine({"lmsteer": "other=/elsewhere"}))
    with pytest.raises(InputError, match="as text"):
        configure(engine({"lmsteer": {"detox": spec}}))
    assert own == ["theirs:Own"]


def test_what_is_refused_with_either_runner():
    def drafts(method):
        return SimpleNamespace(rejection_sample_method=method)

    sharded = SimpleNamespace(enable_batch_sharded_sampling=True)
    for second, changes in (
        (False, {}),
        (False, {"parallel_config": sharded}),  # V1 has no such way of running
        (True, {}),
        (True, {"speculative_config": drafts("standard")}),
        (True, {"speculative_config": drafts("block")}),
    ):
        refuse_unsupported(configuration(second, **changes))
    for second, changes, message in (
        (False, {"speculative_config": drafts("standard")}, "model runner V2 alone"),
        (True, {"speculative_config": drafts("synthetic")}, "accepts drafts at a fixed rate"),
        (True, {"parallel_config": sharded}, "batch-sharded-sampling"),
        (True, {"model_config": SimpleNamespace(runner_type="pooling")}, "pooling model"),
        (False, {"model_config": SimpleNamespace(runner_type="pooling")}, "pooling model"),
    ):
        with pytest.raises(UnsupportedError, match=message):
            refuse_unsupported(configuration(second, **changes))


def test_speculative_decoding_is_refused_at_start(tmp_path, monkeypatch, matrix):
    # Last here: it imports llvmlite, over which vLLM stumbles when it starts again in one process.
    ngram = {"method": "ngram", "num_speculative_tokens": 2, "prompt_lookup_max": 2}
    with (
        pytest.raises(UnsupportedError, match="speculative decoding go together in .* V2 alone"),
        served(build("Llama, tied"), tmp_path, monkeypatch, speculative_config=ngram),
    ):
        pass
    matrix["vLLM", "speculative decoding"] = "refused at start; runner V2 supports it"
