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
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from ..attachment import check_fit
from ..errors import LmsteerError, MismatchError, MissingExtraError, UnsupportedError
from ..export import open_checkpoint
from ..steer import Steer
from .requests import named_steers, read_request, serve
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

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        self.rows: Rows | None = None
        steers = _configure(vllm_config)
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


def _configure(config: VllmConfig) -> Mapping[str, Steer]:
    """The steers of ``--additional-config '{"lmsteer": "NAME=FOLDER"}'``, or the environment's."""
    extra = getattr(config, "additional_config", None)
    spec = extra.get("lmsteer") if isinstance(extra, dict) else None
    if spec is not None:
        serve(spec)
    return named_steers()


def _check(config: VllmConfig, steers: Mapping[str, Steer]) -> None:
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
    """Wrap what makes scores; vLLM calls it in each of its processes, maybe several times."""
    from vllm.model_executor.layers.logits_processor import LogitsProcessor as Scores
    from vllm.v1.engine.input_processor import InputProcessor
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    if hasattr(Scores, "lmsteer"):
        return
    Scores.lmsteer = None
    _wrap_scores(Scores)
    _wrap_prompt_scores(GPUModelRunner)
    admit = InputProcessor.__init__

    @functools.wraps(admit)
    def admitting(self: Any, vllm_config: Any, *args: Any, **kwargs: Any) -> None:
        _configure(vllm_config)  # requests are checked here, in a process of its own
        admit(self, vllm_config, *args, **kwargs)

    InputProcessor.__init__ = admitting


def _wrap_scores(layer: Any) -> None:
    """Steer the rows that any model gives to the layer which multiplies by the head."""
    from vllm.config import get_current_vllm_config_or_none

    build, forward = layer.__init__, layer.forward

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
        if self.lmsteer is not None:
            hidden_states = self.lmsteer.steered(hidden_states)
        return forward(self, lm_head, hidden_states, *args, **kwargs)

    layer.__init__, layer.forward = built, steered


def _wrap_prompt_scores(runner: Any) -> None:
    """Take prompt log-probs one request at a time: then all rows of a call are its own."""
    plain = runner._get_prompt_logprobs_dict

    @functools.wraps(plain)
    def each(self: Any, hidden_states: Any, scheduled: Any) -> dict[str, Any]:
        rows = _ROWS.get(id(self.vllm_config))
        if rows is None or not self.num_prompt_logprobs:
            return dict(plain(self, hidden_states, scheduled))
        waiting, found = self.num_prompt_logprobs, dict[str, Any]()
        try:
            for request in [r for r in waiting if r in scheduled]:
                self.num_prompt_logprobs = {request: waiting[request]}
                with rows.only(self.input_batch.req_id_to_index[request]):
                    found |= plain(self, hidden_states, scheduled)
                if request not in self.num_prompt_logprobs:  # its prompt is done
                    del waiting[request]
        finally:
            self.num_prompt_logprobs = waiting
        return found

    runner._get_prompt_logprobs_dict = each
