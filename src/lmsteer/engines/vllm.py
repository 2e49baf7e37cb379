"""Steers in stock vLLM: every request has strengths of its own.

Once steers are given, `configure` puts a class of ours among the configuration's custom logits
processors, an interface of vLLM's own. vLLM loads it by its name in each of its processes, with
either model runner: `validate_params` checks each request when it comes in, and in the worker the
class learns which requests are in the batch. It does not change the scores. Instead the rows
of hidden states are steered just before they are multiplied by the head (head.py), so that the
model's own head, bias, scale and soft-cap run on steered rows. The change never reaches the KV
cache, so one prefix cache serves all strengths.

    requests.py           which steers are named, what a request asks for
    first_runner.py rows.py    vLLM's model runner V1
    second_runner.py slots.py  vLLM's model runner V2
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import InputError, LmsteerError, MismatchError, UnsupportedError
from ..export import open_checkpoint
from ..model import check_fit
from ..steer import Steer
from .requests import check_site, named_steers, read_request, serve

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig

log = logging.getLogger(__name__)

PROCESSORS = {
    False: "lmsteer.engines.first_runner:Requests",
    True: "lmsteer.engines.second_runner:Requests",
}


def configure(config: VllmConfig) -> None:
    """Make an engine of this configuration steer if steers are given; otherwise change nothing.

    Raises:
        InputError: The steers are not given as they should be, or this process serves others.
        NotFoundError, ArtefactError: A steer that cannot be read.
        MismatchError: A steer of another model.
        UnsupportedError: A steer or a way of running that is not supported.
    """
    steers = served_by(config)
    if not steers:
        return
    refuse_unsupported(config)
    check_site(steers)
    _check_model(config, steers)
    mine = PROCESSORS[bool(config.use_v2_model_runner)]
    others = [one for one in config.model_config.logits_processors or () if one != mine]
    config.model_config.logits_processors = [*others, mine]


def served_by(config: VllmConfig) -> Mapping[str, Steer]:
    """The steers of ``--additional-config '{"lmsteer": "NAME=FOLDER"}'``, or the environment's.

    Raises:
        As for `configure`.
    """
    extra = getattr(config, "additional_config", None)
    spec = extra.get("lmsteer") if isinstance(extra, dict) else None
    if spec not in (None, ""):
        serve(spec)
    return named_steers()


def needed_by(config: VllmConfig) -> Mapping[str, Steer]:
    """The steers of an engine that runs one of our logits processors already.

    Raises:
        InputError: No steers are given; otherwise as for `configure`.
    """
    steers = served_by(config)
    if not steers:
        raise InputError(
            "this engine has a logits processor of lmsteer, and no steers: name them by "
            "LMSTEER_STEERS=NAME=FOLDER, which brings the logits processor by itself"
        )
    refuse_unsupported(config)
    return steers


def wanted_by(params: SamplingParams) -> dict[str, float]:
    """The strengths of a request: ``extra_args={"steer": {"sentiment": 2.5}}``.

    Raises:
        InputError: An unknown steer, or a strength that is no number.
    """
    value = (params.extra_args or {}).get("steer")
    return {} if value is None else read_request(value, named_steers())


def refuse_unsupported(config: Any) -> None:
    """Raise UnsupportedError for ways of running in which steers would not act as they should."""
    if config.model_config.runner_type == "pooling":
        raise UnsupportedError(
            "steers change the text that a model writes, but this engine runs a pooling model, "
            "which writes none. Start it without LMSTEER_STEERS"
        )
    speculation, second = config.speculative_config, bool(config.use_v2_model_runner)
    if speculation is not None and not second:
        raise UnsupportedError(
            "steers and speculative decoding go together in vLLM's model runner V2 alone, and "
            "this engine uses V1, which passes no strengths on to the drafts' rows. Start it "
            "without a speculative config, or without LMSTEER_STEERS"
        )
    if speculation is not None and speculation.rejection_sample_method == "synthetic":
        raise UnsupportedError(
            "rejection_sample_method='synthetic' accepts drafts at a fixed rate, so the text "
            "would not follow the steered model. Use 'standard' or 'block', or start without "
            "LMSTEER_STEERS"
        )
    if second and config.parallel_config.enable_batch_sharded_sampling:
        raise UnsupportedError(
            "steers and --enable-batch-sharded-sampling cannot be used together: each process "
            "then scores rows in an order of its own. Start without one of the two"
        )


def _check_model(config: VllmConfig, steers: Mapping[str, Steer]) -> None:
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
