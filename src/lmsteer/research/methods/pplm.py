"""PPLM: a classifier's gradient moves the model's memory of the text (Dathathri et al. 2020)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ...errors import UnsupportedError
from ...model import decoder_start, evaluating, input_device, read_hidden
from ...states import Progress
from ...text import Example, batch_texts, encode, pad_batch, sides
from .finetune import MAX_LENGTH
from .method import Method
from .perturbed import Perturbed

if TYPE_CHECKING:
    from typing import Self

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TOKENS_AT_ONCE = 2048
RIDGE = 0.01
"""The regularisation of the classifier: scikit-learn's ``C``, on standardised features."""


class PPLM(Method):
    """PPLM-Discrim: before each token, keys and values move to please a classifier of style.

    The classifier is linear in the mean of the hidden states that the head reads. A strength is
    the authors' step size (0.04 in their sentiment example, 0.02 by default), its sign the class;
    the rest of their settings are in `perturbed`. The model's own weights and scores of a given
    text stay as they are, so no text can be scored under it.
    """

    name = "pplm"
    order = 130
    in_paper = True
    slow = True
    clock_prompts = 8
    source = (
        "Dathathri et al. 2020, PPLM-Discrim; two classes, the classifier by logistic regression, "
        "gradients normed for each row of a batch, the nucleus instead of the ten likeliest"
    )
    readable = False
    strengths = (0.1, 0.2)
    generate_options = {"share_prompts": False}  # noqa: RUF012 - never changed

    def __init__(self, weight: Float[Tensor, " dim"], bias: float) -> None:
        self.weight, self.bias = weight, bias
        self.parameters = len(weight) + 1

    @classmethod
    def fit(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        examples: Sequence[Example],
        *,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Self:
        """Train the classifier on one pass over the texts; see `Method.fit`.

        Nothing in it is random: `seed` has no effect.
        """
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        if decoder_start(model) is not None:
            raise UnsupportedError(
                "PPLM moves the cache of a causal model; this one has an encoder"
            )
        above, below = sides(examples)
        means, is_above = mean_states(model, tokenizer, above + below, progress)
        scaler = StandardScaler().fit(means)
        found = LogisticRegression(C=RIDGE, max_iter=1000).fit(scaler.transform(means), is_above)
        weight = found.coef_[0] / scaler.scale_
        bias = float(found.intercept_[0] - weight @ scaler.mean_)
        return cls(torch.tensor(weight, dtype=torch.float32), bias)

    @contextlib.contextmanager
    def attach(self, model: PreTrainedModel, strength: float) -> Iterator[Any]:
        """What writes in the model's place: it has `generate`, and no forward pass of its own.

        Strength 0 is the model itself.
        """
        yield Perturbed(model, self.weight, self.bias, strength) if strength else model


def mean_states(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    progress: Progress | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """What the classifier reads of each text, ``(texts, dim)``, and whether its label is above 0.

    Texts of one token are left out, as everywhere in training.
    """
    encoded = encode(tokenizer, examples, max_length=MAX_LENGTH)
    found = np.empty((len(encoded), 0))
    done = 0
    with evaluating(model), torch.inference_mode():
        for texts in batch_texts(encoded, TOKENS_AT_ONCE):
            batch = pad_batch(encoded, texts)
            hidden = read_hidden(model, **batch.inputs(input_device(model))).float()
            mask = batch.attention_mask.to(hidden)[..., None]
            means = ((hidden * mask).sum(1) / mask.sum(1)).cpu().numpy()
            if not found.shape[1]:
                found = np.empty((len(encoded), means.shape[1]))
            found[texts] = means
            done += len(texts)
            if progress:
                progress("fit", done, len(encoded))
    return found, (encoded.labels[:, 0] > 0).numpy()
