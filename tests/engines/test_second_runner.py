"""vLLM's model runner V2 scores as the hook does: its kernels are run by Triton's interpreter."""

import os
import subprocess
import sys

import pytest
from runners import INTERPRETED, SECOND
from serving import MIXES, asked, off, served
from shapes import build, prompts

from lmsteer.engines.vllm import PROCESSORS
from lmsteer.errors import UnsupportedError

RUNNER = "vLLM, model runner V2"


def check_runner(llm):
    config = llm.llm_engine.vllm_config
    assert config.use_v2_model_runner
    assert config.model_config.logits_processors == [PROCESSORS[True]]


def scored(what, options, tokens, tmp_path, monkeypatch, count=4):
    """Largest difference of a log-prob in an engine of these options, and the engine's counts."""
    model = build("Llama, tied")
    if "speculative_config" in options:  # who writes the drafts: the same model, unsteered
        model.save_pretrained(tmp_path / "drafts")
    requests = [(p + p[:20], mix) for p in prompts(count, 20) for mix in MIXES]
    options = {"max_num_seqs": 8, "disable_log_stats": False, "several": True} | options
    with served(model, tmp_path, monkeypatch, **options) as llm:
        check_runner(llm)
        worst = off(model, requests, asked(llm, requests, tokens=tokens, prompt_logprobs=-1))
        counts = {m.name: getattr(m, "value", 0) for m in llm.get_metrics()}
    print(f"{RUNNER}, float32, {what}: {worst:.2g}")
    assert worst <= 1e-3
    return counts


DRAFTS = {
    "a draft model": {"method": "draft_model", "draft_sample_method": "probabilistic"},
    "n-grams": {"method": "ngram", "prompt_lookup_min": 1, "prompt_lookup_max": 2},
}


@pytest.mark.parametrize("how", ["a draft model", pytest.param("n-grams", marks=pytest.mark.slow)])
def test_drafts_are_judged_by_steered_scores(how, tmp_path, monkeypatch, second_runner, matrix):
    drafts = {"num_speculative_tokens": 3, **DRAFTS[how]}
    if how == "a draft model":
        drafts["model"] = str(tmp_path / "drafts")
    options = {"speculative_config": drafts, "max_num_batched_tokens": 32}
    counts = scored(f"drafts by {how}", options, 6, tmp_path, monkeypatch)
    drafted = counts["vllm:spec_decode_num_draft_tokens"]
    accepted = counts["vllm:spec_decode_num_accepted_tokens"]
    print(f"{accepted} of {drafted} drafts accepted")
    assert 0 < accepted < drafted
    matrix[RUNNER, f"mixed strengths, chunked prefill, speculative decoding by {how}"] = (
        "within 1e-3, prompt log-probs too"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "options"),
    [
        ("chunked prefill", {"max_num_batched_tokens": 16}),
        ("tensor parallel", {"tensor_parallel_size": 2}),
        ("pipeline parallel", {"pipeline_parallel_size": 2}),
    ],
)
def test_ways_of_running(what, options, tmp_path, monkeypatch, second_runner):
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0|1" if "parallel" in what else "auto")
    scored(what, options, 4, tmp_path, monkeypatch)


def test_drafts_at_a_fixed_rate_are_refused(tmp_path, monkeypatch, second_runner, matrix):
    ngram = {"method": "ngram", "num_speculative_tokens": 2, "prompt_lookup_max": 2}
    ngram |= {"rejection_sample_method": "synthetic", "synthetic_acceptance_rates": [0.5, 0.5]}
    with (
        pytest.raises(UnsupportedError, match="accepts drafts at a fixed rate"),
        served(build("Llama, tied"), tmp_path, monkeypatch, speculative_config=ngram),
    ):
        pass
    matrix[RUNNER, "rejection_sample_method='synthetic'"] = "refused at start"


@pytest.mark.parametrize("which", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_steps_by_hand(which, matrix):
    """In a process of their own, where Triton's interpreter is on."""
    command = [sys.executable, "-m", "pytest", str(INTERPRETED), "-W", "ignore", "-s"]
    command += ["-p", "no:cacheprovider", "-m", which]
    done = subprocess.run(command, env={**os.environ, **SECOND}, capture_output=True, text=True)
    print(done.stdout[-4000:])
    assert done.returncode == 0, done.stderr[-2000:]
    matrix[RUNNER, "steps made by hand: requests come, end, lose their place, draft"] = (
        "each row as the formula at its own request's strengths; prompt log-probs too"
    )
    matrix[RUNNER, "what speculative decoding accepts"] = (
        "distributed as the steered model's text, by a chi-square test of 1,000 tokens (100,000 in "
        "`make test-engines-slow`)"
    )
