"""`python -m benchmarks engines`: vLLM's throughput with a strength per request and without.

64 requests at once on the bundled model; unsteered and steered runs alternate in one process, so
that what else the machine does falls on both. Needs the extra `vllm` (make test-engines).
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from typing import Any

import lmsteer
from lmsteer.model.loading import model_folder

REQUESTS = 64


def run(args: Any) -> None:
    """Print tokens a second of both, and their ratio."""
    os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    model, _ = lmsteer.load_model(args.model)
    names = ["sentiment", "detox"]
    with tempfile.TemporaryDirectory() as space:
        for name in names:
            lmsteer.load_steer(name, model).save(f"{space}/{name}")
        os.environ["LMSTEER_STEERS"] = ",".join(f"{space}/{name}" for name in names)
        from vllm import LLM, SamplingParams

        llm = LLM(
            str(model_folder(args.model)),
            dtype=args.dtype,
            enforce_eager=True,
            max_model_len=256,
            max_num_seqs=REQUESTS,
            enable_prefix_caching=False,
        )
    prompts = lmsteer.read_prompts("bundled:neutral")
    prompts = [prompts[i % len(prompts)] for i in range(REQUESTS)]

    def seconds(steered: bool) -> float:
        params = [
            SamplingParams(
                max_tokens=64,
                ignore_eos=True,
                temperature=1.0,
                extra_args={"steer": {"sentiment": i / 16 - 2, "detox": i / 64}}
                if steered
                else None,
            )
            for i in range(REQUESTS)
        ]
        start = time.perf_counter()
        llm.generate(prompts, params, use_tqdm=False)
        return time.perf_counter() - start

    seconds(False), seconds(True)
    plain, with_steers, ratios = [], [], []
    for number in range(args.repeats):
        pair = {}
        for steered in (False, True) if number % 2 else (True, False):
            pair[steered] = seconds(steered)
        plain.append(pair[False])
        with_steers.append(pair[True])
        ratios.append(pair[False] / pair[True])
        print(f"unsteered {pair[False]:.2f} s, steered {pair[True]:.2f} s, {ratios[-1]:.3f}")
    made = REQUESTS * 64
    low, high = sorted(ratios)[:: max(1, len(ratios) - 1)][:2]
    print(
        f"unsteered {made / statistics.median(plain):.0f} tokens/s, "
        f"{REQUESTS} strengths {made / statistics.median(with_steers):.0f} tokens/s; "
        f"median ratio {statistics.median(ratios):.3f} [{low:.3f}, {high:.3f}]"
    )
