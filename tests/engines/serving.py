"""A model in stock vLLM with the plugin, and how far its log-probs are from the hook's."""

import contextlib
import gc
import os

import pytest
import torch
from shapes import hooked, steers_for

pytest.importorskip("vllm")
os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
from vllm import LLM, SamplingParams

MIXES = [
    {},
    {"sentiment": 2.0},
    {"sentiment": -1.3, "detox": 0.7},
    {"detox": -3.0},
    {"sentiment": 1.0, "sentiment.domain": 1.0},
]
VOCAB = 259


def named(model):
    return {s.name: s for steer in steers_for(model) for s in (steer, steer.domain) if s}


@contextlib.contextmanager
def served(model, path, monkeypatch, *, several=False, steers=None, **options):
    """The model in vLLM; in this process unless it takes several."""
    model.save_pretrained(path / "model")
    for steer in steers_for(model):
        steer.save(path / steer.name, force=True)
    monkeypatch.setenv("LMSTEER_STEERS", steers or f"{path}/sentiment,{path}/detox")
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1" if several else "0")
    options = {
        "dtype": "float32",
        "enforce_eager": True,
        "max_num_seqs": 32,
        "block_size": 32,
        **options,
    }
    llm = LLM(
        str(path / "model"), skip_tokenizer_init=True, max_model_len=128, max_logprobs=-1, **options
    )
    try:
        yield llm
    finally:
        with contextlib.suppress(AttributeError):
            llm.llm_engine.engine_core.shutdown()
        del llm
        gc.collect()


def asked(llm, requests, tokens=1, **options):
    """Each request's outputs; all of them are in the engine at once."""
    options = {
        "logprobs": -1,
        "temperature": 1.0,
        "detokenize": False,
        "ignore_eos": True,
    } | options
    params = [
        SamplingParams(max_tokens=tokens, extra_args={"steer": mix} if mix else None, **options)
        for _, mix in requests
    ]
    given = [{"prompt_token_ids": prompt} for prompt, _ in requests]
    return llm.generate(given, params, use_tqdm=False)


def row(found, vocab=VOCAB):
    return torch.tensor([found[i].logprob for i in range(vocab)], dtype=torch.float64)


def off(model, requests, outputs):
    """Largest difference of a log-prob: of first tokens, of prompts, of later tokens."""
    steers, worst = named(model), 0.0
    for (prompt, mix), output in zip(requests, outputs, strict=True):
        written = output.outputs[0]
        truth = hooked(model, prompt + list(written.token_ids), {steers[k]: mix[k] for k in mix})
        pairs = [(p, truth[len(prompt) - 1 + i]) for i, p in enumerate(written.logprobs)]
        if output.prompt_logprobs:
            pairs += [(p, truth[i]) for i, p in enumerate(output.prompt_logprobs[1:])]
        worst = max(worst, *(float((row(p) - t).abs().max()) for p, t in pairs))
    return worst
