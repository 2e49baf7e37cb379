"""Steers in vLLM's model runner V2, which vLLM uses on machines with Triton.

This runner keeps each request in a slot, and says for each row of scores which slot it belongs to
(`expanded_idx_mapping`), the rows of drafts in speculative decoding included. So the drafts are
judged by the steered model's own probabilities, and the accepted text has the distribution of the
steered model's text, whatever wrote the drafts.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch

from ..errors import MissingExtraError, UnsupportedError
from .head import steering, watch_head, wrap
from .slots import Slots
from .vllm import needed_by, wanted_by

try:
    from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor
except ImportError as error:
    raise MissingExtraError("vllm", "vllm", "serving with vLLM") from error

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig
    from vllm.v1.worker.gpu.input_batch import InputBatch
    from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext, LogitsProcRequestState

# The slots of each engine in this process, by its configuration.
_SLOTS: dict[int, Slots] = {}


class Requests(LogitsProcessor):  # type: ignore[misc]
    """Which request wants which strengths: ``extra_args={"steer": {"sentiment": 2.5}}``."""

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Refuse a request with an unknown steer or a strength that is no number (HTTP 400)."""
        wanted_by(sampling_params)

    def __init__(self, vllm_config: VllmConfig, req_states: LogitsProcRequestState) -> None:
        from vllm.v1.worker.gpu.sample.prompt_logprob import CHUNK_SIZE

        most, per_request = req_states.max_num_reqs, 1 + vllm_config.num_speculative_tokens
        self.slots = Slots(
            needed_by(vllm_config),
            most,
            req_states.device,
            vllm_config.model_config.dtype,
            rows=max(most * per_request, CHUNK_SIZE),
            tokens=vllm_config.scheduler_config.max_num_batched_tokens,
        )
        _SLOTS[id(vllm_config)] = self.slots
        weakref.finalize(vllm_config, _SLOTS.pop, id(vllm_config), None)
        _watch_runner()

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        """Note that a request has taken a slot. False: its scores need no change afterwards."""
        self.slots.put(req_idx, wanted_by(sampling_params))
        return False

    def apply_staged_writes(self) -> None:
        """Send the strengths of new requests; vLLM calls it before each forward pass."""
        self.slots.flush()

    def apply(self, logits: torch.Tensor, ctx: LogitsContext) -> torch.Tensor:
        """Return the scores as they are: they are already steered when they get here."""
        return logits


def _watch_runner() -> None:
    from vllm.v1.worker.gpu.model_runner import GPUModelRunner
    from vllm.v1.worker.gpu.sample.prompt_logprob import PromptLogprobsWorker

    watch_head()
    wrap(GPUModelRunner, "_dummy_sampler_run", _try_head)
    wrap(GPUModelRunner, "sample", _steer_sampling)
    wrap(PromptLogprobsWorker, "compute_prompt_logprobs", _steer_prompts)
    wrap(PromptLogprobsWorker, "compute_prompt_token_id_logprobs", _steer_prompts)


def _try_head(plain: Any, runner: Any, *args: Any, **kwargs: Any) -> Any:
    """Let vLLM's measurement of its memory at start show whether this model can be steered."""
    if id(runner.vllm_config) not in _SLOTS:
        return plain(runner, *args, **kwargs)
    with steering(lambda rows: rows) as seen:
        result = plain(runner, *args, **kwargs)
    seen.demand()
    return result


def _steer_sampling(
    plain: Any, runner: Any, hidden_states: torch.Tensor, batch: InputBatch, *args: Any
) -> Any:
    """The scores of a step: the last row of each request, and those of its drafts."""
    slots = _SLOTS.get(id(runner.vllm_config))
    # The runner's prompt worker knows no configuration; it scores prompts after this, each step.
    runner.prompt_logprobs_worker.lmsteer = slots
    if slots is None or not slots.asks[batch.idx_mapping_np].any():
        return plain(runner, hidden_states, batch, *args)
    with steering(lambda rows: slots.steered(rows, batch.expanded_idx_mapping)) as seen:
        result = plain(runner, hidden_states, batch, *args)
    seen.demand()
    return result


def _steer_prompts(
    plain: Any, worker: Any, scores: Any, hidden_states: torch.Tensor, batch: InputBatch, *args: Any
) -> Any:
    """Log-probabilities of prompts: vLLM asks for the scores of a stretch of tokens at a time."""
    slots = getattr(worker, "lmsteer", None)
    if slots is None or not slots.asks[batch.idx_mapping_np].any():
        return plain(worker, scores, hidden_states, batch, *args)

    def steered(stretch: torch.Tensor) -> Any:
        first, count = _start(stretch, hidden_states), stretch.shape[0]
        owners = slots.owners(batch.query_start_loc, batch.idx_mapping, first, count)
        with steering(lambda given: slots.steered(given, owners)) as seen:
            result = scores(stretch)
        seen.demand()
        return result

    return plain(worker, steered, hidden_states, batch, *args)


def _start(stretch: torch.Tensor, whole: torch.Tensor) -> int:
    """The number of the row of `whole` at which a view of it starts."""
    if stretch.untyped_storage().data_ptr() != whole.untyped_storage().data_ptr():
        raise UnsupportedError(
            "this vLLM hands the hidden states of prompts on as copies, so it is not "
            "known which request each row belongs to; steers were tested on vLLM 0.32"
        )
    return (stretch.storage_offset() - whole.storage_offset()) // whole.stride(0)
