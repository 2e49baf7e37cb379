"""`stream`: one steered text in pieces, while it is being written."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from typing_extensions import Unpack

from ..errors import InputError
from .options import OPTIONS, GenerateOptions
from .writing import Strengths, generate

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@OPTIONS.documented
def stream(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    *,
    strengths: Strengths = {},  # noqa: B006 - never changed
    **options: Unpack[GenerateOptions],
) -> Iterator[str]:
    """Continue one prompt and yield the text in pieces; joined they are the text of `generate`.

    A thread of its own writes the text; it stops soon after the iterator is closed.
    Other calls of `generate` and `stream` on this model wait until it has finished.

    Args:
        model: A causal or encoder-decoder language model.
        tokenizer: The model's own.
        prompt: One prompt.
        strengths: The strength of each steer, as in `generate`.
        **options: See `GenerateOptions`.

    Yields:
        Pieces of the text, mostly whole words.
    """
    from transformers import StoppingCriteria, StoppingCriteriaList, TextIteratorStreamer

    closed = threading.Event()

    class Closed(StoppingCriteria):
        def __call__(self, input_ids: torch.Tensor, scores: Any, **rest: Any) -> torch.Tensor:
            return torch.full((len(input_ids),), closed.is_set(), device=input_ids.device)

    options = OPTIONS.fill(options, "stream")
    if options["losses"]:
        raise InputError(
            "stream() yields text alone: use generate(..., losses=True) for the losses"
        )
    pieces = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    ours = {"streamer": pieces, "stopping_criteria": StoppingCriteriaList([Closed()])}
    options["generate_kwargs"] = {**options["generate_kwargs"], **ours}
    failures: list[BaseException] = []

    def write() -> None:
        try:
            generate(
                model,
                tokenizer,
                prompt,
                strengths=strengths,
                **options,
            )
        except BaseException as error:  # the reader of the pieces gets it
            failures.append(error)
        finally:
            pieces.end()

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield from (piece for piece in pieces if piece)
    finally:
        closed.set()
        thread.join()
    if failures:
        raise failures[0]
