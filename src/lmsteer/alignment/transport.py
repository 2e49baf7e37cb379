"""`transfer`: a steer learned on one model, carried to another without training.

With ``e_source ~ H e_target`` and ``c_source ~ G c_target`` the source's change of a score,
``c_source^T W e_source``, is ``c_target^T (G^T W H) e_target`` on the target: W' = G^T W H (Han et
al. 2024, section 3.5). The forms differ in G.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

from ..errors import InputError, LmsteerWarning, MismatchError, UnsupportedError
from ..metrics import divergence
from ..model import check_fit, decoder_start, fingerprint
from ..recipes import calibrate as calibrated
from ..recipes import train
from ..states import Progress
from ..steer import Steer, lineage, strength_at_kl
from ..text import Example, shared_words
from .maps import FittedMap, MapMethod, fit_map
from .sides import FEWEST_WORDS, Side, frequencies, read_side, same_places, sampled

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Form = Literal["states", "two-sided", "inverse", "weighted", "transpose"]
FORMS: tuple[Form, ...] = get_args(Form)
FEW = 300
"""Examples below which all of them are learned from when a steer is refined."""
PRIOR_TOKENS = 1e7
"""The number of tokens of text that a carried steer is worth when it is refined. On 30 texts from
bundled-small to bundled (effect of the carried steer .61): 1e5 gives .39, 1e6 .56, 1e7 .60."""
POOR = 0.1
"""The share of held-out variance explained below which a fit is warned of."""


class TransferWarning(LmsteerWarning):
    """A steer carried over by a fit that explains little."""


def transfer(
    source: tuple[PreTrainedModel, PreTrainedTokenizerBase],
    target: tuple[PreTrainedModel, PreTrainedTokenizerBase],
    steer: Steer,
    *,
    form: Form | str = "states",
    method: MapMethod = "ridge",
    frequency: bool = False,
    texts: Sequence[str] | None = None,
    examples: Sequence[Example] | None = None,
    calibrate: bool = True,
    progress: Progress | None = None,
) -> Steer:
    """Carry a steer, and its domain part, to another model.

    Args:
        source: The model that the steer was learned on, and its tokenizer.
        target: The model that the steer is wanted for, and its tokenizer.
        steer: A steer learned on `source`.
        form: Where the map of hidden states (G) comes from. ``"states"`` is least squares on the
            states of both models at the same characters of the same text. The other forms use the
            embeddings alone: ``"two-sided"`` is the regression of the target's embeddings on the
            source's, ``"inverse"`` the (pseudo-)inverse of H, ``"weighted"`` that inverse in the
            metric of the source's states, and ``"transpose"`` the paper's form, G = H. See
            docs/transfer.md for how they compare.
        method: How embeddings are mapped; see `maps.fit_map`.
        frequency: Whether words count by how likely the source model finds them in `texts`;
            otherwise all words count the same.
        texts: The texts that both models read; by default 400 texts that the source model writes.
        examples: Labelled texts to refine the steer on; some 30 are enough. Training on the target
            then begins at the carried steer and is held to it, as it is otherwise held to zero.
        calibrate: Whether to measure what each strength costs on the target (at the output site).
        progress: Called as ``progress(stage, done, total)``.

    Returns:
        A steer for `target`, scaled so that at strength 1 its divergence from the base is what it
        was on `source`. Its record says under ``"transfer"`` where it came from, how many words
        the models share, and how well each fit explains rows that it did not see.

    Raises:
        InputError: An unknown form, or texts that share no place.
        MismatchError: The steer is not the source's, or the models share too few words.
        UnsupportedError: Encoder-decoder models, or refinement at the input site.
    """
    _check(steer, source, target, form)
    if texts is None:
        texts = sampled(source, progress)
    theirs, ours = (read_side(*pair, texts, steer.site, progress) for pair in (source, target))
    left, right = shared_words(source[1], target[1], len(theirs.table), len(ours.table))
    if len(left) < FEWEST_WORDS:
        raise MismatchError(
            f"the two vocabularies share {len(left)} words; expected {FEWEST_WORDS} at least. "
            "Train on the target instead (lmsteer train)"
        )
    weights = frequencies(theirs)[left] if frequency else None
    anchors = theirs.table[left], ours.table[right]
    # A vector added to all output embeddings changes no probability; at the input it counts.
    centred = steer.site == "output"
    words = fit_map(anchors[1], anchors[0], weights, method=method, centred=centred)  # H^T
    fits: dict[str, FittedMap] = {"words": words}
    H = words.matrix.T
    if form == "transpose":
        back = H.T
    elif form == "inverse":
        back = torch.linalg.pinv(H, rtol=1e-6)
    elif form == "weighted":
        cov = theirs.hidden.double().T @ theirs.hidden.double() / len(theirs.hidden)
        gram = H.T @ cov @ H
        gram.diagonal().add_(1e-6 * gram.diagonal().mean())
        back = torch.linalg.solve(gram, H.T @ cov)
    elif form == "states" and steer.site == "output":
        fits["states"] = fit_map(*same_places(ours, theirs), centred=False)  # G^T
        back = fits["states"].matrix
    else:
        fits["back"] = fit_map(*anchors, weights, method=method, centred=centred)
        back = fits["back"].matrix.T
    _judge(steer, fits)
    carried = _carry(steer, H, back, target[0])
    factor = _factor(steer, carried, theirs, ours)
    facts: dict[str, Any] = {
        "from": steer.fingerprint.model if steer.fingerprint else None,
        "form": form,
        "method": method,
        "frequency": frequency,
        "shared_words": len(left),
        "fits": {name: fit.facts() for name, fit in fits.items()},
        "scaled_by": factor,
        "refined_on": len(examples) if examples else 0,
        "source_record": lineage(steer.record),
    }
    scaled = replace(factor * carried, record={"transfer": facts})
    if examples:
        refined = train(
            *target,
            examples,
            name=steer.name,
            start=scaled,
            solver="convex",  # it holds the map to where it begins
            calibrate=False,
            **_refinement(target[1], examples),
            progress=progress,
        )
        scaled = replace(refined, record={**refined.record, "transfer": facts})
    if calibrate and scaled.site == "output":
        scaled = calibrated(*target, scaled, samples=2, progress=progress)
    return scaled


def _refinement(tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example]) -> dict[str, Any]:
    """The options of refining: a tenth of a few texts is too little to choose a ridge by."""
    if len(examples) >= FEW:
        return {}
    ids = tokenizer([e.text for e in examples], add_special_tokens=False)["input_ids"]
    return {"held_out": 0.0, "ridge": PRIOR_TOKENS / max(1, sum(map(len, ids)))}


def _check(steer: Steer, source: Any, target: Any, form: str) -> None:
    if form not in FORMS:
        raise InputError(f"form must be one of {', '.join(FORMS)}, was: {form!r}")
    check_fit(source[0], steer)
    for model, _ in (source, target):
        if decoder_start(model) is not None:
            raise UnsupportedError("steers of encoder-decoder models cannot be transferred so far")


def _carry(steer: Steer, H: Tensor, back: Tensor, model: Any) -> Steer:
    """W' = back W H at the output site; at the input, states and embeddings change places."""

    def moved(part: Steer) -> Steer:
        P, Q = part.P.double(), part.Q.double()
        P, Q = (back @ P, H.T @ Q) if part.site == "output" else (H.T @ P, back @ Q)
        return Steer(P.float(), Q.float(), part.name, part.site, None, mark, where=part.where)

    mark = fingerprint(model, steer.site)
    domain = moved(steer.domain) if steer.domain is not None else None
    return replace(moved(steer), domain=domain)


def _factor(steer: Steer, carried: Steer, theirs: Side, ours: Side) -> float:
    """The factor that makes the divergence at strength 1 the same on both models."""
    if steer.site != "output":
        return 1.0
    few = [side.hidden[:: max(1, len(side.hidden) // 2048)] for side in (theirs, ours)]
    wanted = divergence(theirs.head, few[0].to(theirs.head.weight), steer, [-1.0, 1.0])
    grid = [0.0, *(2.0**k for k in range(-6, 9))]
    signed = [s * sign for sign in (-1, 1) for s in grid]
    table = divergence(ours.head, few[1].to(ours.head.weight), carried, signed)
    sides = [strength_at_kl(table, wanted[sign], sign) for sign in (-1.0, 1.0)]
    return float((sides[0] * sides[1]) ** 0.5)


def _judge(steer: Steer, fits: dict[str, FittedMap]) -> None:
    for name, fit in fits.items():
        if fit.explained <= 0:
            raise MismatchError(
                f"the map of {name} explains nothing of {steer.name!r}'s model on held-out rows "
                f"({fit.explained:.3f} of the variance, from {fit.rows} rows): the models have too "
                "little in common. Train on the target instead (lmsteer train)"
            )
        if fit.explained < POOR:
            warnings.warn(
                f"the map of {name} explains {fit.explained:.1%} of the held-out variance "
                f"({fit.rows} rows): expect little of the transferred steer; training on the "
                "target, or refining with examples=, does better",
                TransferWarning,
                stacklevel=3,
            )
