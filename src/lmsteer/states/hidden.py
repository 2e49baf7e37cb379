"""One frozen pass through a model: what its head reads, for every target token.

The states do not depend on the steer, so each training token needs the trunk only once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import InputError
from ..model import (
    evaluating,
    fast_dtype,
    head_device,
    head_dim,
    input_device,
    lowered,
    read_hidden,
)
from ..text import Batch, Encoded, batch_texts, pad_batch
from .cache import CachedRows, Keep
from .processes import ONE_PROCESS, Workers
from .progress import Progress
from .states import States

# On a CPU a batch's rows should stay in the processor's cache from one layer to the next, and small
# batches of texts of like length have few pads (3% in 1,500 sentences).
_TOKENS_AT_ONCE = {"cpu": 1024}
SAVE_EVERY = 16
"""The number of batches after which a pass in a folder is saved: a kill loses at most these."""


def read_states(
    model: nn.Module,
    encoded: Encoded,
    *,
    progress: Progress | None = None,
    fast: bool = False,
    keep: Keep | None = None,
    workers: Workers = ONE_PROCESS,
    within: Callable[[Batch], contextlib.AbstractContextManager[Any]] | None = None,
) -> States:
    """Run the frozen trunk once over all texts and keep the rows that predict targets.

    Args:
        model: A causal language model; it is in eval mode during the pass, and then as it was.
        encoded: The tokenised examples, as `encode` returns them.
        progress: A function that is called as ``progress("read", done, total)``, in texts.
        fast: Compute in bf16 where the hardware multiplies it natively (`model.lowered`). This is
            several times faster; the states differ by 1 to 2% from those of float32, and are held
            in bf16.
        keep: Where to hold the rows; by default in memory up to `Keep.memory`.
        workers: The processes among which the batches are divided. The batches, and so the rows,
            are the same for any number of processes.
        within: A context that is entered around the reading of each batch, to act on the model.
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
    rows = CachedRows(keep or Keep(), shape, dtype, to, f"{workers.rank}of{workers.size}")
    done = rows.done
    in_bf16 = lowered(model, device, fast)
    try:
        with evaluating(model), torch.inference_mode():
            for texts in mine[done:]:
                batch = pad_batch(encoded, texts)
                spans = [torch.arange(begins[i], ends[i]) for i in texts]
                places = torch.cat(spans).to(rows.tensor.device)
                with within(batch) if within else contextlib.nullcontext(), in_bf16():
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
    """The rows with the target, the text, the labels and the weight of each."""
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


def _target_rows(
    model: nn.Module, batch: Batch, device: torch.device
) -> Float[Tensor, "targets dim"]:
    hidden = read_hidden(model, **batch.inputs(device))
    return hidden[:, :-1][batch.is_target[:, 1:].to(hidden.device)]
