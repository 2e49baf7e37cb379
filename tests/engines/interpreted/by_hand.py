"""vLLM's own runner V2 with steps made by hand: its states, batches, samplers and kernels.

Only what stands around them is a stand-in. The model is a table: the hidden state after a token is
that token's row, so the text it writes is a Markov chain whose probabilities are known exactly.
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
import vllm.v1.worker.cpu.shm  # noqa: F401  (what vLLM's own CPU worker loads first)
from vllm import SamplingParams
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.model_executor.layers.logits_processor import LogitsProcessor
from vllm.v1.core.sched.output import CachedRequestData, NewRequestData, SchedulerOutput
from vllm.v1.worker.gpu.input_batch import InputBuffers
from vllm.v1.worker.gpu.lora_utils import LoraState
from vllm.v1.worker.gpu.model_runner import GPUModelRunner
from vllm.v1.worker.gpu.sample.logits_processor import build_custom_logits_processors
from vllm.v1.worker.gpu.sample.prompt_logprob import PromptLogprobsWorker
from vllm.v1.worker.gpu.sample.sampler import Sampler
from vllm.v1.worker.gpu.spec_decode.rejection_sampler import RejectionSampler
from vllm.v1.worker.gpu.states import RequestState

VOCAB, DIM = 6, 16
CPU = torch.device("cpu")
NOTHING = lambda *args, **kwargs: None  # noqa: E731


def tables(dtype=torch.float32):
    """Hidden states after each token, and a head."""
    g = torch.Generator().manual_seed(1)
    return (
        torch.randn(VOCAB, DIM, generator=g).to(dtype),
        torch.randn(VOCAB, DIM, generator=g).to(dtype) / 4,
    )


def change(steers, mix):
    """What steers at these strengths add to the identity, in float64."""
    zero = torch.zeros(DIM, DIM, dtype=torch.float64)
    return sum((s * steers[name].matrix().double() for name, s in mix.items()), zero)


class Model(torch.nn.Module):
    """A table of hidden states and vLLM's own layer that multiplies by the head."""

    def __init__(self, table: torch.Tensor, head: torch.Tensor) -> None:
        super().__init__()
        self.table, self.weight = table, head
        self.logits_processor = LogitsProcessor(head.shape[0])
        self.lm_head = SimpleNamespace(tp_size=1, quant_method=SimpleNamespace(apply=self._apply))
        self.given: list[torch.Tensor] = []

    def _apply(self, layer, hidden, bias=None):
        self.given.append(hidden.clone())
        return hidden @ self.weight.T.to(hidden.dtype)

    def compute_logits(self, hidden):
        return self.logits_processor(self.lm_head, hidden)

    def log_probs(self, change: torch.Tensor) -> torch.Tensor:
        """Of the next token after each token, in float64, once rows h become h + h @ change."""
        table = self.table.double()
        return torch.log_softmax((table + table @ change) @ self.weight.double().T, dim=-1)


class Runner(GPUModelRunner):
    """GPUModelRunner with what its methods need, and nothing that loads or runs a real model."""

    def __init__(
        self, table, head, *, drafts=0, most=8, length=256, tokens=128, method="standard"
    ) -> None:
        self.vllm_config = config = VllmConfig()
        config.model_config = SimpleNamespace(
            runner_type="generate",
            dtype=table.dtype,
            logits_processors=["lmsteer.engines.second_runner:Requests"],
            rswa_window=None,
        )
        speculation = SimpleNamespace(
            num_speculative_tokens=drafts,
            enable_adaptive_verification=False,
            rejection_sample_method=method,
        )
        config.speculative_config = speculation if drafts else None
        config.scheduler_config.max_num_seqs = most
        config.scheduler_config.max_num_batched_tokens = tokens
        with set_current_vllm_config(VllmConfig()):
            self.model = Model(table, head)
        self.model_config, self.device, self.vocab_size = config.model_config, CPU, head.shape[0]
        self.max_num_reqs, self.decode_query_len = most, drafts + 1
        self.use_pp, self.is_last_pp_rank = False, True
        self.adaptive_verification = self.pooling_runner = self.encoder_cache = None
        self.pp_handler = self.pcp_manager = self.batch_sharder = self.fast_prefill = None
        self.req_states = RequestState(most, length, tokens, drafts, self.vocab_size, CPU)
        self.input_buffers = InputBuffers(most, tokens, CPU)
        self.lora_state = LoraState(most)
        self.block_tables = SimpleNamespace(append_block_ids=NOTHING)
        self.model_state = SimpleNamespace(
            num_new_sampled_tokens_per_step=1,
            add_request=NOTHING,
            remove_request=NOTHING,
            apply_staged_writes=NOTHING,
            postprocess_state=NOTHING,
        )
        processors = build_custom_logits_processors(
            config, self.req_states, False, config.model_config.logits_processors
        )
        self.slots = processors[0].slots
        self.sampler = Sampler(
            config, most, self.vocab_size, CPU, self.req_states,
            num_speculative_tokens=drafts + 1, custom_logits_processors=processors,
        )  # fmt: skip
        self.rejection_sampler = RejectionSampler(self.sampler, speculation, CPU)
        self.prompt_logprobs_worker = PromptLogprobsWorker(most, CPU)
        self.draft_logits = torch.zeros(most, drafts, self.vocab_size)
        self.speculator = SimpleNamespace(draft_logits=self.draft_logits)

    def admit(self, requests) -> None:
        """New requests: ``(id, prompt, tokens to read, strengths, options)``."""
        step = SchedulerOutput.make_empty()
        step.scheduled_new_reqs = [
            NewRequestData(
                req_id=name,
                prompt_token_ids=prompt,
                mm_features=[],
                sampling_params=SamplingParams(
                    max_tokens=1000, extra_args={"steer": steer} if steer else None, **options
                ),
                pooling_params=None,
                block_ids=(),
                num_computed_tokens=0,
                lora_request=None,
                prefill_token_ids=read,
            )
            for name, prompt, read, steer, options in requests
        ]
        self.add_requests(step)

    def end(self, names, preempted=()) -> None:
        """Requests that are done, and others that lose their place for now."""
        step = SchedulerOutput.make_empty()
        step.finished_req_ids, step.preempted_req_ids = set(names), set(preempted)
        self.finish_requests(step)

    @torch.inference_mode()
    def run_step(self, scheduled, drafts):
        """One step: ``scheduled`` tokens and ``drafts`` tokens of each request, by id.

        Returns the runner's batch, what the sampler gave, and the prompts' log-probs.
        """
        step = SchedulerOutput.make_empty()
        step.num_scheduled_tokens = dict(scheduled)
        step.total_num_scheduled_tokens = total = sum(scheduled.values())
        step.scheduled_spec_decode_tokens = {name: list(d) for name, d in drafts.items() if len(d)}
        known = self.req_states.req_id_to_index
        for name, tokens in drafts.items():
            self.req_states.draft_tokens[known[name], : len(tokens)] = torch.tensor(tokens)
        computed = self.req_states.num_computed_tokens.gpu
        step.scheduled_cached_reqs = CachedRequestData(
            req_ids=list(scheduled),
            resumed_req_ids=set(),
            new_token_ids=[],
            all_token_ids={},
            new_block_ids=[None] * len(scheduled),
            num_computed_tokens=[int(computed[known[name]]) for name in scheduled],
            num_output_tokens=[0] * len(scheduled),
        )
        self.update_requests(step)
        state, _ = self.gather_batch_req_state(step, dummy_run=False)
        shape = SimpleNamespace(num_tokens=total, num_reqs=None)
        batch = self.prepare_inputs(step, state, shape, 0)
        hidden = self.model.table[batch.input_ids.long()]
        self.model.given.clear()
        output, sampled, rejected = self.sample(hidden, batch, None)
        scored = list(self.model.given)
        scores, all_ids = self.model.compute_logits, self.req_states.all_token_ids.gpu
        lengths = self.req_states.prompt_len.np
        prompts = self.prompt_logprobs_worker.compute_prompt_logprobs(
            scores, hidden, batch, all_ids, computed, lengths
        )
        chosen = self.prompt_logprobs_worker.compute_prompt_token_id_logprobs(
            scores, hidden, batch, lengths
        )
        self.postprocess_sampled(
            batch.idx_mapping, output.sampled_token_ids, sampled, rejected, batch.query_start_loc
        )
        return SimpleNamespace(
            batch=batch, output=output, sampled=sampled, rejected=rejected, rows=scored,
            hidden=hidden, prompts=prompts, chosen=chosen,
        )  # fmt: skip
