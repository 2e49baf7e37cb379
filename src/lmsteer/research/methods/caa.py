"""CAA: a difference of means added to the residual stream of one layer (Rimsky et al. 2024)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...errors import MismatchError
from ...model import autocast, input_device, layers_of, read_hidden
from ...states import Progress, target_losses
from ...text import Encoded, Example, batch_texts, encode, pad_batch, sides, split_held_out
from .finetune import MAX_LENGTH, TOKENS_AT_ONCE
from .method import Method

if TYPE_CHECKING:
    from typing import Self

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

JUDGED_ON = 300
"""The most held-out texts that the layer is chosen by."""


class CAA(Method):
    """A vector added at every position to what one layer writes.

    At strength 1 it is the mean of the layer's outputs over the tokens of positive texts, less that
    over negative ones: the stream moves as far as the two are apart. The layer is the one by which
    the model, at strengths 1 and -1, best tells the sign of held-out texts: the largest area under
    the ROC curve of a text's gain in likelihood.

    Args:
        vector: ``(dim,)``, the mean difference.
        layer: The number of the layer, counted from 0.
    """

    name = "caa"
    order = 60
    source = (
        "Rimsky et al. 2024 and Turner et al. 2023; means over all tokens of unpaired texts, not "
        "over the answers to paired questions"
    )
    strengths = (2.0, 4.0, 8.0)

    def __init__(self, vector: Float[Tensor, " dim"], layer: int) -> None:
        self.vector, self.layer = vector, layer
        self.parameters = vector.numel()

    @classmethod
    def fit(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        examples: Sequence[Example],
        *,
        layer: int | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Self:
        """Means of all layers in one pass, then the choice of one; nothing is random.

        Args:
            model: The base model.
            tokenizer: The model's own tokenizer.
            examples: Labelled texts, with labels of both signs.
            layer: The number of a layer to use instead of the best one, counted from 0.
            seed: It has no effect.
            progress: Called as ``progress(stage, done, total)``.

        Raises:
            InputError: All examples are of one side.
            UnsupportedError: The model has no single list of layers.
        """
        layers = layers_of(model)
        above, below = sides(examples)
        encoded = encode(tokenizer, [*above, *below], max_length=MAX_LENGTH)
        kept, held_out = split_held_out([*above, *below], 0.1)
        places = {source: place for place, source in enumerate(encoded.source)}
        kept, held_out = ([places[i] for i in part if i in places] for part in (kept, held_out))
        vectors = _differences(model, layers, encoded.only(kept), progress)
        if layer is None:
            # With few examples, all held-out texts may be of one side, which separates nothing.
            both = {e > 0 for e in encoded.labels[held_out, 0].tolist()} == {True, False}
            judged = held_out if both else kept
            few = encoded.only(judged[:: -(-len(judged) // JUDGED_ON)])
            scores = []
            for number, vector in enumerate(vectors):
                scores.append(_separation(model, cls(vector, number), few))
                if progress:
                    progress("layers", number + 1, len(vectors))
            layer = scores.index(max(scores))
        return cls(vectors[layer].clone(), layer)

    @contextlib.contextmanager
    def attach(self, model: PreTrainedModel, strength: float) -> Iterator[PreTrainedModel]:
        """The same model with the vector added to one layer's output.

        Raises:
            MismatchError: The model has another width, or fewer layers.
        """
        layers = layers_of(model)
        if self.layer >= len(layers):
            raise MismatchError(f"fitted at layer {self.layer}, this model has {len(layers)}")
        if not strength:
            yield model
            return
        shift = strength * self.vector

        def after(rows: Tensor) -> Tensor:
            if rows.shape[-1] != len(shift):
                raise MismatchError(
                    f"fitted on a stream of dim {len(shift)}, this model's has {rows.shape[-1]}"
                )
            return rows + shift.to(rows)

        with _changed(layers[self.layer], after):
            yield model


@contextlib.contextmanager
def _changed(layer: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within the block, `change` has the last word on the rows that a layer writes."""

    def after(module: Any, args: Any, output: Any) -> Any:
        if isinstance(output, tuple):  # some families return more than the rows
            return (change(output[0]), *output[1:])
        return change(output)

    handle = layer.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def _differences(
    model: PreTrainedModel, layers: nn.ModuleList, encoded: Encoded, progress: Progress | None
) -> Float[Tensor, "layers dim"]:
    """Mean output over tokens of positive texts less that of negative ones, at every layer."""
    sums: list[list[Tensor]] = [[], []]
    counts = [0, 0]
    device = input_device(model)
    read: list[Tensor] = []

    def keep(rows: Tensor) -> Tensor:
        read.append(rows)
        return rows

    done = 0
    with contextlib.ExitStack() as stack:
        for layer in layers:
            stack.enter_context(_changed(layer, keep))
        for texts in batch_texts(encoded, TOKENS_AT_ONCE):
            batch = pad_batch(encoded, texts)
            read.clear()
            with autocast(device, True):
                read_hidden(model, **batch.inputs(device))
            for side, wanted in enumerate((batch.labels[:, 0] > 0, batch.labels[:, 0] < 0)):
                mask = batch.is_target & wanted[:, None]
                total = torch.stack([rows[mask.to(rows.device)].double().sum(0) for rows in read])
                sums[side].append(total)
                counts[side] += int(mask.sum())
            done += len(texts)
            if progress:
                progress("read", done, len(encoded))
    above, below = (torch.stack(s).sum(0) / count for s, count in zip(sums, counts, strict=True))
    return (above - below).float().cpu()


@torch.no_grad()
def _separation(model: PreTrainedModel, caa: CAA, encoded: Encoded) -> float:
    """Area under the ROC curve of log P(text | +1) - log P(text | -1) for the label's sign."""
    from sklearn.metrics import roc_auc_score

    gains, signs = [], []
    for texts in batch_texts(encoded, TOKENS_AT_ONCE):
        batch = pad_batch(encoded, texts)
        losses = []
        for strength in (1.0, -1.0):
            with caa.attach(model, strength), autocast(input_device(model), True):
                losses.append(target_losses(model, batch))
        gain = (losses[1] - losses[0]).split(batch.is_target.sum(1).tolist())
        gains += [float(one.mean()) for one in gain]
        signs += (batch.labels[:, 0] > 0).tolist()
    return float(roc_auc_score(signs, gains))
