"""One frozen pass through a model: what its head reads, for every target token.

The states do not depend on the steer, so each training token needs the trunk only once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

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
Within: TypeAlias = Callable[[Batch], contextlib.AbstractContextManager[Any]]
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
    within: Within | None = None,
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
    task = _Pass(model, encoded, fast, workers)
    rows = task.rows(keep or Keep())
    for _ in task.run(rows, progress, within):
        pass
    places = None
    if workers.size > 1:
        here = torch.repeat_interleave(task.held, encoded.target_counts)
        places = torch.where(here, here.cumsum(0) - 1, -1).to(task.to)
    owned = task.held.nonzero()[:, 0].tolist()
    whole = _states(encoded, owned, rows.tensor, task.to)
    return replace(whole, places=places, workers=workers)


def stream_states(
    model: nn.Module,
    encoded: Encoded,
    *,
    progress: Progress | None = None,
    fast: bool = False,
    keep: Keep | None = None,
    workers: Workers = ONE_PROCESS,
) -> Iterator[States]:
    """The same rows batch by batch, each forgotten when the next is asked for.

    Args:
        model: As for `read_states`, and so are the others.
        encoded: The tokenised examples.
        progress: A function that is told how far the pass is.
        fast: Compute in bf16.
        keep: With a folder, the rows are also written to a file there, so that an interrupted
            pass can go on. Otherwise none are kept.
        workers: The processes; each is given the batches that are its own.
    """
    task = _Pass(model, encoded, fast, workers)
    rows = task.rows(keep) if keep is not None and keep.folder is not None else None
    for texts, hidden in task.run(rows, progress, None):
        yield _states(encoded, texts, hidden, task.to)


class _Pass:
    """One pass of the trunk, as far as this process takes part in it."""

    def __init__(self, model: nn.Module, encoded: Encoded, fast: bool, workers: Workers) -> None:
        if not len(encoded):
            raise InputError("no text has a token to learn from: each needs at least two tokens")
        self._model, self._encoded, self._workers = model, encoded, workers
        self._device, self._fast, self.to = input_device(model), fast, head_device(model)
        batches = list(batch_texts(encoded, _TOKENS_AT_ONCE.get(self._device.type, 16384)))
        self._mine = batches[workers.rank :: workers.size]
        self.held = torch.zeros(len(encoded), dtype=torch.bool)
        """Whether this process reads each text."""
        self.held[[text for batch in self._mine for text in batch]] = True
        self._dtype = fast_dtype(self._device) if fast else torch.float32

    def rows(self, keep: Keep) -> CachedRows:
        """Room for all rows of this process."""
        count = int(self._encoded.target_counts[self.held].sum())
        part = f"{self._workers.rank}of{self._workers.size}"
        return CachedRows(keep, (count, head_dim(self._model)), self._dtype, self.to, part)

    def run(
        self, rows: CachedRows | None, progress: Progress | None, within: Within | None
    ) -> Iterator[tuple[list[int], Tensor]]:
        """The texts of each batch and their rows, which are written to `rows` if there are any.

        Batches that an earlier run has written are taken from there.
        """
        encoded, mine = self._encoded, self._mine
        here = torch.where(self.held, encoded.target_counts, 0)
        ends = here.cumsum(0).tolist()
        begins = (here.cumsum(0) - here).tolist()
        in_bf16 = lowered(self._model, self._device, self._fast)
        already = done = rows.done if rows is not None else 0
        try:
            for number, texts in enumerate(mine):
                places = torch.cat([torch.arange(begins[i], ends[i]) for i in texts])
                if number < already and rows is not None:
                    yield texts, rows.tensor[places.to(rows.tensor.device)]
                    continue
                batch = pad_batch(encoded, texts)
                around = within(batch) if within else contextlib.nullcontext()
                with evaluating(self._model), torch.inference_mode(), around, in_bf16():
                    hidden = _target_rows(self._model, batch, self._device).to(self._dtype)
                if rows is not None:
                    rows.tensor[places.to(rows.tensor.device)] = hidden.to(rows.tensor)
                done += 1
                if rows is not None and done % SAVE_EVERY == 0:
                    rows.save(done)
                if progress:
                    count = sum(map(len, mine[:done])) * self._workers.size
                    progress("read", min(count, len(encoded)), len(encoded))
                yield texts, hidden
        finally:
            if rows is not None:
                rows.save(done)  # also of a pass that is interrupted


def _states(encoded: Encoded, texts: Sequence[int], hidden: Tensor, device: torch.device) -> States:
    """The rows with the target, the text, the labels and the weight of each."""
    begins = encoded.starts.tolist()
    targets = torch.tensor([token for i in texts for token in encoded.ids[i][begins[i] :]])
    numbers = torch.tensor(texts)
    text = torch.repeat_interleave(numbers, encoded.target_counts[numbers])
    return States(
        hidden,
        targets.to(device, torch.int64),
        text.to(device),
        encoded.labels[text].float().to(device),
        encoded.token_weights[text].float().to(device),
    )


def _target_rows(
    model: nn.Module, batch: Batch, device: torch.device
) -> Float[Tensor, "targets dim"]:
    hidden = read_hidden(model, **batch.inputs(device))
    return hidden[:, :-1][batch.is_target[:, 1:].to(hidden.device)]
