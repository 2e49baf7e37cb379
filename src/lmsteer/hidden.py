"""One frozen pass through a model: what its head reads, for every target token.

The states do not depend on the steer, so each training token needs the trunk only once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from .attachment import read_hidden
from .batches import Batch, batch_texts, pad_batch
from .cache import Keep, Rows
from .encoding import Encoded
from .errors import InputError, UnsupportedError
from .head import (
    Head,
    affine,
    decoder_start,
    fast_dtype,
    head_device,
    head_dim,
    head_of,
    input_device,
    text_config,
)
from .states import States
from .workers import ALONE, Workers
from .wrappers import unwrap

Progress = Callable[[str, int, int], None]
"""Called as ``progress(stage, done, total)``; the command line draws a bar from it."""


# On a CPU twice as many take longer: their memory is mapped anew for every layer.
_TOKENS_AT_ONCE = {"cpu": 2048}
SAVE_EVERY = 16
"""Batches after which a pass kept in a folder is written down: a kill loses at most these."""


def read_states(
    model: nn.Module,
    encoded: Encoded,
    *,
    progress: Progress | None = None,
    fast: bool = False,
    keep: Keep | None = None,
    workers: Workers = ALONE,
    within: Callable[[Batch], contextlib.AbstractContextManager[Any]] | None = None,
) -> States:
    """Run the frozen trunk once over all texts and keep the rows that predict targets.

    Args:
        model: A causal language model; put into eval mode for the pass, then back.
        encoded: Tokenised examples, as `examples.encode` returns them.
        progress: Told the number of texts read so far.
        fast: Multiply in bf16 where the hardware has it natively: several times faster, states
            rounded to about 1%, and held in bf16.
        keep: Where to hold the rows; by default in memory up to `Keep.memory`.
        workers: Of several processes each reads its share of the batches. The batches are the
            same however many there are, so the rows are, too.
        within: Entered around the reading of each batch; what it does to the model acts on it.
    """
    device = input_device(model)
    all_batches = list(batch_texts(encoded, _TOKENS_AT_ONCE.get(device.type, 16384)))
    mine = all_batches[workers.rank :: workers.size]
    held = torch.zeros(len(encoded), dtype=torch.bool)
    held[[text for batch in mine for text in batch]] = True
    counts = encoded.target_counts
    here = torch.where(held, counts, 0)
    ends = here.cumsum(0).tolist()
    begins = (here.cumsum(0) - here).tolist()
    dtype = fast_dtype(device) if fast else torch.float32
    shape = (int(counts[held].sum()), head_dim(model))
    if not len(encoded):
        raise InputError("no text has a token to learn from: each needs at least two tokens")
    to = head_device(model)
    rows = Rows(keep or Keep(), shape, dtype, to, f"{workers.rank}of{workers.size}")
    done = rows.done
    try:
        with evaluating(model), torch.inference_mode(), autocast(device, fast):
            for texts in mine[done:]:
                batch = pad_batch(encoded, texts)
                spans = [torch.arange(begins[i], ends[i]) for i in texts]
                places = torch.cat(spans).to(rows.tensor.device)
                with within(batch) if within else contextlib.nullcontext():
                    read = _target_rows(model, batch, device)
                rows.tensor[places] = read.to(rows.tensor)
                done += 1
                if done % SAVE_EVERY == 0:
                    rows.save(done)
                if progress:
                    count = sum(map(len, mine[:done]))
                    progress("read", min(count * workers.size, len(encoded)), len(encoded))
    finally:
        rows.save(done)  # also of a pass that is interrupted
    return _states(encoded, held, rows.tensor, to, workers)


def _states(
    encoded: Encoded, held: Tensor, hidden: Tensor, device: torch.device, workers: Workers
) -> States:
    """The rows with what belongs to each: target, text, labels, weight."""
    counts, owned = encoded.target_counts, held.nonzero()[:, 0].tolist()
    begins = encoded.starts.tolist()
    targets = torch.tensor([token for i in owned for token in encoded.ids[i][begins[i] :]])
    text = torch.repeat_interleave(torch.arange(len(held))[held], counts[held])
    places = None
    if workers.size > 1:
        here = torch.repeat_interleave(held, counts)
        places = torch.where(here, here.cumsum(0) - 1, -1).to(device)
    return States(
        hidden,
        targets.to(device, torch.int64),
        text.to(device),
        encoded.labels[text].float().to(device),
        encoded.token_weights[text].float().to(device),
        places,
        workers,
    )


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within the block the model is in eval mode; then each of its modules is as it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def autocast(device: torch.device, fast: bool) -> contextlib.AbstractContextManager[Any]:
    """bf16 within the block, where it is wanted and the hardware has products of it."""
    dtype = fast_dtype(device)
    if not fast or dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype)


def target_losses(model: nn.Module, batch: Batch) -> Float[Tensor, " targets"]:
    """NLL in nats of each target by the model's own forward, with whatever acts on it."""
    logits = model(**batch.inputs(input_device(model)), use_cache=False).logits[:, :-1]
    wanted = batch.is_target[:, 1:].to(logits.device)
    targets = batch.input_ids[:, 1:].to(logits.device)[wanted]
    return cross_entropy(logits[wanted].float(), targets, reduction="none")


def _target_rows(
    model: nn.Module, batch: Batch, device: torch.device
) -> Float[Tensor, "targets dim"]:
    hidden = read_hidden(model, **batch.inputs(device))
    return hidden[:, :-1][batch.is_target[:, 1:].to(hidden.device)]


@torch.no_grad()
def read_head(model: nn.Module, dtype: torch.dtype = torch.float32) -> Head:
    """The head of a model as a plain function, checked against the model on two tokens.

    Raises:
        UnsupportedError: The model does something to its scores that is neither a scale nor a
            soft-cap, so that a steer would be trained for another function than the model's.
    """
    module, inside = head_of(model), unwrap(model)
    probe = {"input_ids": torch.tensor([[0, 1]], device=input_device(model))}
    if decoder_start(model) is not None:
        probe["decoder_input_ids"] = probe["input_ids"]
    with evaluating(inside):
        raw = module(read_hidden(inside, **probe)).double()
        final = inside(**probe, use_cache=False).logits.double().to(raw.device)
        weight, bias = affine(module)
    late: Any = getattr(inside, "final_logits_bias", None)  # BART adds it after the head
    if late is not None:
        bias = late[0] if bias is None else bias + late[0]
        raw = raw + late.double()
    softcap = getattr(text_config(model), "final_logit_softcapping", None)
    scale = float((raw * final).sum() / raw.square().sum()) if softcap is None else 1.0
    head = Head(
        weight.to(dtype),
        None if bias is None else bias.to(dtype),
        1.0 if abs(scale - 1.0) < 1e-3 else scale,
        softcap,
    )
    error = float((head.finish(raw) - final).abs().max() / final.abs().max().clamp_min(1e-6))
    if error > 0.02:  # bf16 rounds to 0.4%; anything structural is far beyond this
        raise UnsupportedError(
            f"{type(inside).__name__} changes its scores after the head in a way that is neither "
            f"a scale nor a soft-cap (relative error {error:.2g}); training needs to know it"
        )
    return head
