"""A plugin for stock vLLM: every request has strengths of its own.

Two entry points, which vLLM finds in each of its processes. `Requests`, a logits processor by
type, learns before each forward pass which row of the batch wants which strengths; it leaves the
scores alone. `register` wraps the layer that turns hidden states into scores, so that the rows it
is given are steered first: the model's own head, bias, scale and soft-cap then run on them. What
the steers change never reaches the KV cache, so one prefix cache serves all strengths.
"""

from __future__ import annotations

import functools
import logging
import weakref
from typing import TYPE_CHECKING, Any

import torch

from ..attachment import check_fit
from ..errors import LmsteerError, MismatchError, MissingExtraError, UnsupportedError
from ..export import open_checkpoint
from .requests import named_steers, read_request
from .rows import Rows

try:
    from vllm.v1.sample.logits_processor import LogitsProcessor, MoveDirectionality
except ImportError as error:
    raise MissingExtraError("vllm", "vllm", "serving with vLLM") from error

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig
    from vllm.v1.sample.logits_processor import BatchUpdate

log = logging.getLogger(__name__)

# The rows of each engine in this process, by its configuration.
_ROWS: dict[int, Rows] = {}


class Requests(LogitsProcessor):  # type: ignore[misc]
    """Which request wants which strengths: ``extra_args={"steer": {"sentiment": 2.5}}``."""

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Refuse a request that names an unknown steer or no number; HTTP 400 in the server."""
        _wanted(sampling_params)

    def __init__(
        self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool
    ) -> None:
        self.rows: Rows | None = None
        steers = named_steers()
        if not steers:
            return
        refuse_unsupported(vllm_config)
        _check(vllm_config, steers)
        self.rows = Rows(steers, vllm_config.scheduler_config.max_num_seqs, device)
        _ROWS[id(vllm_config)] = self.rows
        weakref.finalize(vllm_config, _ROWS.pop, id(vllm_config), None)

    def is_argmax_invariant(self) -> bool:
        """True: the scores are already steered when they get here."""
        return True

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """The scores as they are."""
        return logits

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow the batch; vLLM calls it before each forward pass."""
        if batch_update is None or self.rows is None:
            return
        self.rows.move(
            count=batch_update.batch_size,
            removed=batch_update.removed,
            added=[(row, _wanted(params)) for row, params, *_ in batch_update.added],
            moved=[
                (start, end, way is MoveDirectionality.SWAP)
                for start, end, way in batch_update.moved
            ],
        )


def _wanted(params: SamplingParams) -> dict[str, float]:
    value = (params.extra_args or {}).get("steer")
    return {} if value is None else read_request(value, named_steers())


def refuse_unsupported(config: VllmConfig) -> None:
    """Raise UnsupportedError at start for ways of running in which steers would be wrong."""
    if getattr(config, "speculative_config", None) is not None:
        raise UnsupportedError(
            "steers and speculative decoding cannot be used together: vLLM checks several tokens "
            "a request at once then, without asking logits processors. Start without a "
            "speculative config, or unset LMSTEER_STEERS"
        )
    if getattr(config, "use_v2_model_runner", False):
        raise UnsupportedError(
            "steers are served by vLLM's model runner V1; start with VLLM_USE_V2_MODEL_RUNNER=0"
        )


def _check(config: VllmConfig, steers: Any) -> None:
    """Refuse steers of another model, by the fingerprint of the tables in its folder."""
    source = config.model_config.model
    try:
        model = open_checkpoint(source, revision=config.model_config.revision).model
    except LmsteerError as error:
        log.warning("steers are checked by their dim alone: %s", error)
        dim = config.model_config.get_hidden_size()
        for name, steer in steers.items():
            if steer.dim != dim:
                raise MismatchError(
                    f"steer {name!r} acts on embeddings of dim {steer.dim}, {source} has {dim}"
                ) from error
        return
    for steer in steers.values():
        check_fit(model, steer)


def register() -> None:
    """Wrap the layer that makes scores, and prompt log-probs; vLLM calls it in each process."""
    from vllm.config import get_current_vllm_config_or_none
    from vllm.model_executor.layers.logits_processor import LogitsProcessor as Scores
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    if hasattr(Scores, "lmsteer"):  # vLLM may register a plugin several times
        return
    build, forward = Scores.__init__, Scores.forward
    prompt_scores = GPUModelRunner._get_prompt_logprobs_dict

    @functools.wraps(build)
    def built(self: Any, *args: Any, **kwargs: Any) -> None:
        build(self, *args, **kwargs)
        config = get_current_vllm_config_or_none()
        self.lmsteer = _ROWS.get(id(config))
        if self.lmsteer is None and config is not None and named_steers():
            # Where vLLM loads no logits processors, requests would go unsteered in silence.
            refuse_unsupported(config)

    @functools.wraps(forward)
    def steered(self: Any, lm_head: Any, hidden_states: Any, *args: Any, **kwargs: Any) -> Any:
        rows = self.lmsteer
        if rows is not None:
            hidden_states = rows.steered(hidden_states)
        return forward(self, lm_head, hidden_states, *args, **kwargs)

    @functools.wraps(prompt_scores)
    def prompt_scores_each(self: Any, hidden_states: Any, scheduled: Any) -> dict[str, Any]:
        rows = _ROWS.get(id(self.vllm_config))
        if rows is None or not self.num_prompt_logprobs:
            found: dict[str, Any] = prompt_scores(self, hidden_states, scheduled)
            return found
        # One request at a time, so that all rows of a call are known to be its own.
        waiting, found = self.num_prompt_logprobs, {}
        try:
            for request in list(waiting):
                if request not in scheduled:
                    continue
                self.num_prompt_logprobs = {request: waiting[request]}
                with rows.only(self.input_batch.req_id_to_index[request]):
                    found |= prompt_scores(self, hidden_states, scheduled)
                if request not in self.num_prompt_logprobs:
                    del waiting[request]
        finally:
            self.num_prompt_logprobs = waiting
        return found

    Scores.lmsteer = None
    Scores.__init__, Scores.forward = built, steered
    GPUModelRunner._get_prompt_logprobs_dict = prompt_scores_each
