"""`calibrate`: what each strength costs, so that nobody has to guess one.

For each strength: the divergence KL(P_eps || P_0) in nats a token, and perplexity under the base
model and distinct-2 of sampled text. From these the safe range, per sign.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from .attachment import attach, check_everywhere
from .batches import Batch
from .encoding import Encoded
from .errors import InputError
from .generation import by_mix, generate
from .head import Head
from .hidden import Progress, read_head, read_states
from .metrics import Estimate, distinct, perplexity
from .metrics.perplexity import encode_records
from .readers import read_prompts
from .steer import Steer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

STRENGTHS = (-5.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
PROMPTS, SAMPLES, TOKENS = 24, 4, 20
MOST_PERPLEXITY, LEAST_DISTINCT = 1.5, 0.9


def calibrate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    steer: Steer,
    *,
    prompts: Sequence[str] | None = None,
    strengths: Sequence[float] = STRENGTHS,
    samples: int = SAMPLES,
    max_new_tokens: int = TOKENS,
    top_p: float = 0.9,
    seed: int = 0,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> Steer:
    """Measure what each strength costs, and keep the table with the steer.

    Args:
        model: The steer's model.
        tokenizer: The model's own.
        steer: Left as it is; its domain part is not used.
        prompts: Where the sampled text begins; 24 neutral prompts of the package by default.
        strengths: Signed; 0 is added where it is missing.
        samples: Texts sampled for each prompt and strength.
        max_new_tokens: Length of each, in tokens.
        top_p: Nucleus they are sampled from.
        seed: Of the sampling.
        batch_size: Rows generated at once.
        progress: Called as ``progress("generate", done, total)``.

    Returns:
        The same map with ``record["calibration"]``: ``rows``, one a strength with ``kl`` (exact,
        over the positions of the unsteered samples), ``perplexity`` (of steered samples under
        the base model) and ``distinct_2``; and ``safe``, ``[low, high]``, up to where, on each
        side, perplexity stays within 1.5 times and distinct-2 above 0.9 times the unsteered
        text's, interpolated between neighbouring strengths. Sampled figures are noisy: the
        intervals stand beside them.

    Raises:
        InputError: No prompts, or no strength besides 0.
        UnsupportedError: An encoder-decoder model.
    """
    wanted = sorted({0.0, *map(float, strengths)})
    if len(wanted) < 2:
        raise InputError("strengths must hold at least one number besides 0")
    chosen = read_prompts("bundled:neutral")[:PROMPTS] if prompts is None else list(prompts)
    # The map without its old table, which would warn of strengths that are being measured anew.
    plain = replace(steer, record={})
    records = generate(
        model,
        tokenizer,
        chosen,
        strengths=[{plain: strength} for strength in wanted],
        samples=samples,
        max_new_tokens=max_new_tokens,
        min_new_tokens=max_new_tokens,  # texts that end at once would say little
        top_p=top_p,
        seed=seed,
        batch_size=batch_size,
        progress=progress,
    )
    parts = by_mix(records, len(wanted))
    encoded = encode_records(model, tokenizer, parts[wanted.index(0.0)])[0]
    kl = text_divergence(model, encoded, plain, wanted)
    rows = []
    for strength, part in zip(wanted, parts, strict=True):
        row: dict[str, Any] = {"strength": strength, "kl": kl[strength]}
        row |= _figures("perplexity", perplexity(model, tokenizer, part))
        row |= _figures("distinct_2", distinct(part, 2))
        rows.append(row)
    table = {
        "rows": rows,
        "safe": list(safe_range(rows)),
        "positions": int(encoded.target_counts.sum()),
        "prompts": len(chosen),
        "samples": samples,
        "tokens": max_new_tokens,
        "top_p": top_p,
        "seed": seed,
    }
    return replace(steer, record={**steer.record, "calibration": table})


def _figures(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


@torch.no_grad()
def text_divergence(
    model: PreTrainedModel, encoded: Encoded, steer: Steer, strengths: Sequence[float]
) -> dict[float, float]:
    """KL(P_eps || P_0) at each strength, mean over the targets of texts, in nats a token.

    At the output site from one pass of the trunk; at the input site from one a strength, with the
    prompts alone steered where the steer acts on nothing else.
    """
    if steer.site == "output":
        check_everywhere(steer, "measuring its divergence at the output site")
    head, hidden = read_head(model), read_states(model, encoded).hidden
    if steer.site == "output":
        return divergence(head, hidden, steer, strengths)
    total = dict.fromkeys(strengths, 0.0)
    for strength in strengths:
        if strength == 0.0:
            continue

        def steered(batch: Batch, strength: float = strength) -> Any:
            # A whole text is read in one call, which cannot know by itself where its prompt ends.
            where = "all" if steer.where == "all" else batch.is_prompt
            return attach(model, {steer: strength}, where=where)

        moved = read_states(model, encoded, within=steered).hidden
        for part in head.chunks(len(hidden)):
            base = head.logits(hidden[part]).log_softmax(-1)
            total[strength] += _summed(head, moved[part], base) / len(hidden)
    return total


@torch.no_grad()
def divergence(
    head: Head, hidden: Float[Tensor, "tokens dim"], steer: Steer, strengths: Sequence[float]
) -> dict[float, float]:
    """KL(P_eps || P_0) at each strength, mean over the rows of `hidden`, in nats a token.

    Exact over the whole vocabulary; a chunk of the rows at a time.
    """
    change = (hidden @ steer.P.to(hidden)) @ steer.Q.T.to(hidden)
    total = dict.fromkeys(strengths, 0.0)
    for part in head.chunks(len(hidden)):
        base = head.logits(hidden[part]).log_softmax(-1)
        for strength in strengths:
            if strength == 0.0:
                continue
            total[strength] += _summed(head, hidden[part] + strength * change[part], base)
    return {strength: value / len(hidden) for strength, value in total.items()}


def _summed(head: Head, moved: Tensor, base: Tensor) -> float:
    """KL of these rows' distributions from those of log-probabilities `base`, summed."""
    steered = head.logits(moved).log_softmax(-1)
    return float((steered.exp() * (steered - base)).sum(dtype=torch.float64))


def safe_range(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """The strengths, one of each sign, up to which both bounds hold.

    The first strength outwards that breaks a bound ends the range; where between it and its
    neighbour the bound is met is interpolated. A range that no strength breaks ends with the
    last one measured.
    """
    base = next(row for row in rows if row["strength"] == 0.0)

    def slack(row: Mapping[str, Any]) -> float:
        """From 1 at the base down to 0 where a bound is met: the smaller of the two margins."""
        margin: float = 1 - (row["perplexity"] / base["perplexity"] - 1) / (MOST_PERPLEXITY - 1)
        if not base["distinct_2"]:  # unsteered text without any pair of words bounds nothing
            return margin
        kept: float = row["distinct_2"] / base["distinct_2"]
        return min(margin, (kept - LEAST_DISTINCT) / (1 - LEAST_DISTINCT))

    ends = []
    for sign in (-1.0, 1.0):
        side = sorted(
            (r for r in rows if r["strength"] * sign >= 0), key=lambda r: sign * r["strength"]
        )
        end, margin = 0.0, 1.0
        for row in side[1:]:
            following = slack(row)
            if following < 0:
                end += (row["strength"] - end) * margin / (margin - following)
                break
            end, margin = row["strength"], following
        ends.append(end)
    return ends[0], ends[1]
