"""vLLM's model runner V2 scores as the hook does: its kernels run by Triton's interpreter."""

import json
import os
import subprocess
import sys

import pytest
from conftest import INTERPRETED, SECOND
from serving import MIXES, asked, off, served
from shapes import build, prompts

RUNNER = "vLLM, model runner V2"


def test_mixed_strengths_and_chunked_prefill(tmp_path, monkeypatch, second_runner, matrix):
    model = build("Llama, untied")
    requests = [(prompt, mix) for prompt in prompts(6, 40) for mix in MIXES]
    options = {"max_num_batched_tokens": 16, "max_num_seqs": 8, "several": True}
    with served(model, tmp_path, monkeypatch, **options) as llm:
        worst = off(model, requests, asked(llm, requests, tokens=4, prompt_logprobs=-1))
        print(f"vLLM V2 float32, chunked: {worst:.2g}")
        assert worst <= 1e-3
    matrix[RUNNER, "mixed strengths in one batch, chunked prefill"] = (
        "within 1e-3, prompt log-probs too"
    )
