"""The one formula: what a steer adds to rows of embeddings.

A row vector ``h`` (a hidden state at the output site, an embedding at the input site) becomes
``h + s (h P) Q^T`` at strength ``s``. Han et al. 2024, section 3: at the output site ``P Q^T`` is
the paper's W, because the score ``c^T (I + s W) e`` is the unchanged head applied to
``c + s W^T c``.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def change(
    rows: Float[Tensor, "*rows dim"],
    P: Float[Tensor, "dim rank"],
    Q: Float[Tensor, "dim rank"],
    strengths: float | Tensor | None = None,
) -> Float[Tensor, "*rows dim"]:
    """What a steer adds to each row: ``s (h P) Q^T``, computed in the dtype of the arguments.

    Args:
        rows: The rows to steer, all of them unsteered.
        P: The first factor, of the rows' dtype and device.
        Q: The second factor, of the rows' dtype and device.
        strengths: One number for all rows, or a tensor that broadcasts against ``rows @ P``: one
            strength per row and per column of P, for several steers side by side. None where the
            strengths are in the factors already.

    Source: Han et al. 2024, section 3.
    """
    inner = rows @ P
    if strengths is not None:
        inner = inner * strengths
    return inner @ Q.T
