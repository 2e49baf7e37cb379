"""Whether a steer was made for a model."""

from __future__ import annotations

from torch import nn

from ..errors import MismatchError, UnsupportedError
from ..head import fingerprint, head_dim, input_tables
from ..steer import Steer


def check_fit(model: nn.Module, steer: Steer) -> None:
    """Raise MismatchError unless the steer was made for this model's embeddings."""
    found = fingerprint(model, steer.site)
    dim = head_dim(model) if steer.site == "output" else input_dim(model)
    if steer.dim != dim:
        raise MismatchError(
            f"steer {steer.name!r} acts on embeddings of dim {steer.dim}, but this model's "
            f"{steer.site} embeddings have dim {dim}{_trained_on(steer)}; "
            "use a steer trained on this model, or lmsteer.transfer"
        )
    wanted = steer.fingerprint
    if wanted is not None and not wanted.matches(found):
        raise MismatchError(
            f"steer {steer.name!r} was trained on other weights{_trained_on(steer)}: the "
            f"fingerprints agree to cosine {wanted.similarity(found):.3f}, 0.99 is needed; "
            "use a steer trained on this model, or lmsteer.transfer"
        )


def check_everywhere(steer: Steer, acting: str) -> None:
    """Raise UnsupportedError for a steer of the prompt alone, where every position is steered.

    Args:
        steer: Any.
        acting: What cannot tell the prompt from the rest, as the message is to name it.
    """
    if steer.where != "all":
        raise UnsupportedError(
            f"steer {steer.name!r} was trained to act on the prompt alone, and {acting} acts on "
            "every position alike. Use lmsteer.attach or lmsteer.generate, which steer the prompt "
            'and nothing else, or train a steer with where="all"'
        )


def _trained_on(steer: Steer) -> str:
    name = steer.fingerprint.model if steer.fingerprint is not None else ""
    return f" (it was trained on {name!r})" if name else ""


def input_dim(model: nn.Module) -> int:
    """Width of the input embeddings."""
    return int(input_tables(model)[0].weight.shape[1])
