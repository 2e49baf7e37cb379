"""The loss of texts by a model's own forward pass, with whatever acts on the model."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ..model import input_device
from ..text import Batch


def target_losses(model: nn.Module, batch: Batch) -> Float[Tensor, " targets"]:
    """NLL in nats of each target by the model's own forward, with whatever acts on it."""
    logits = model(**batch.inputs(input_device(model)), use_cache=False).logits[:, :-1]
    wanted = batch.is_target[:, 1:].to(logits.device)
    targets = batch.input_ids[:, 1:].to(logits.device)[wanted]
    return cross_entropy(logits[wanted].float(), targets, reduction="none")
