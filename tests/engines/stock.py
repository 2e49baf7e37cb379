"""Run vLLM as one does who knows nothing of lmsteer; print what it wrote and what it loaded.

python stock.py MODEL several|alone
"""

import json
import os
import sys

os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ALLOW_INSECURE_SERIALIZATION": "1"}


def ours(worker=None):
    """Modules of lmsteer in this process."""
    return sorted(name for name in sys.modules if name.startswith("lmsteer"))


def main():
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = str(int(sys.argv[2] == "several"))
    from vllm import LLM, SamplingParams

    llm = LLM(
        sys.argv[1], skip_tokenizer_init=True, max_model_len=128, max_num_seqs=8, block_size=32,
        dtype="float32", enforce_eager=True, max_logprobs=-1,
    )  # fmt: skip
    prompts = [{"prompt_token_ids": [5, 6, 7 + i]} for i in range(6)]
    params = SamplingParams(
        max_tokens=6, temperature=1.0, seed=3, logprobs=2, prompt_logprobs=2, detokenize=False,
        ignore_eos=True, extra_args={"steer": {"nobody": "asks"}},
    )  # fmt: skip
    written = [
        [o.outputs[0].token_ids, o.outputs[0].cumulative_logprob, str(o.prompt_logprobs)]
        for o in llm.generate(prompts, params, use_tqdm=False)
    ]
    config = llm.llm_engine.vllm_config
    facts = {
        "written": written,
        "second runner": config.use_v2_model_runner,
        "processors": config.model_config.logits_processors,
        "here": ours(),
        "in workers": llm.collective_rpc(ours),
    }
    print("FACTS", json.dumps(facts))


if __name__ == "__main__":
    main()
