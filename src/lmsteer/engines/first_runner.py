"""Steers in vLLM's model runner V1, which vLLM uses on machines without Triton."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch

from ..errors import MissingExtraError
from .head import steering, watch_head, wrap
from .rows import Rows
from .vllm import needed_by, wanted_by

try:
    from vllm.v1.sample.logits_processor import LogitsProcessor, MoveDirectionality
except ImportError as error:
    raise MissingExtraError("vllm", "vllm", "serving with vLLM") from error

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig
    from vllm.v1.sample.logits_processor import BatchUpdate

# The rows of each engine in this process, by its configuration.
_ROWS: dict[int, Rows] = {}


class Requests(LogitsProcessor):  # type: ignore[misc]
    """Which request wants which strengths: ``extra_args={"steer": {"sentiment": 2.5}}``."""

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Refuse a request with an unknown steer or a strength that is no number (HTTP 400)."""
        wanted_by(sampling_params)

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        most = vllm_config.scheduler_config.max_num_seqs
        self.rows = Rows(needed_by(vllm_config), most, device)
        _ROWS[id(vllm_config)] = self.rows
        weakref.finalize(vllm_config, _ROWS.pop, id(vllm_config), None)
        _watch_runner()

    def is_argmax_invariant(self) -> bool:
        """Always True: the scores are already steered when they get here."""
        return True

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the scores as they are."""
        return logits

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow the batch; vLLM calls it before each forward pass."""
        if batch_update is None:
            return
        self.rows.move(
            count=batch_update.batch_size,
            removed=batch_update.removed,
            added=[(row, wanted_by(params)) for row, params, *_ in batch_update.added],
            moved=[
                (start, end, way is MoveDirectionality.SWAP)
                for start, end, way in batch_update.moved
            ],
        )


def _watch_runner() -> None:
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    watch_head()
    wrap(GPUModelRunner, "_dummy_sampler_run", _try_head)
    wrap(GPUModelRunner, "execute_model", _steer_step)
    wrap(GPUModelRunner, "_get_prompt_logprobs_dict", _steer_prompts)


def _try_head(plain: Any, runner: Any, *args: Any, **kwargs: Any) -> Any:
    """Let vLLM's measurement of its memory at start show whether this model can be steered."""
    if id(runner.vllm_config) not in _ROWS:
        return plain(runner, *args, **kwargs)
    with steering(lambda rows: rows) as seen:
        result = plain(runner, *args, **kwargs)
    seen.demand()
    return result


def _steer_step(plain: Any, runner: Any, *args: Any, **kwargs: Any) -> Any:
    """One forward pass and the scores of its last rows: one row per request."""
    rows = _ROWS.get(id(runner.vllm_config))
    if rows is None:
        return plain(runner, *args, **kwargs)
    with steering(rows.steered) as seen:
        result = plain(runner, *args, **kwargs)
    state = runner.execute_model_state
    if rows.any_asks and state is not None and state.logits is not None:
        from vllm.distributed.parallel_state import get_pp_group

        if get_pp_group().is_last_rank:
            seen.demand()
    return result


def _steer_prompts(plain: Any, runner: Any, hidden_states: Any, scheduled: Any) -> dict[str, Any]:
    """Log-probabilities of prompts, one request at a time: all rows of a call then belong to it."""
    rows = _ROWS.get(id(runner.vllm_config))
    if rows is None or not runner.num_prompt_logprobs:
        return dict(plain(runner, hidden_states, scheduled))
    waiting, found = runner.num_prompt_logprobs, dict[str, Any]()
    try:
        for request in [r for r in waiting if r in scheduled]:
            runner.num_prompt_logprobs = {request: waiting[request]}
            row = runner.input_batch.req_id_to_index[request]
            with rows.only(row), steering(rows.steered):
                found |= plain(runner, hidden_states, scheduled)
            if request not in runner.num_prompt_logprobs:  # its prompt is done
                del waiting[request]
    finally:
        runner.num_prompt_logprobs = waiting
    return found
