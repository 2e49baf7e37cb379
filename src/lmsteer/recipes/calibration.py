"""`calibrate`: what each strength costs, so that nobody has to guess one.

For each strength: the divergence KL(P_eps || P_0) in nats a token, and perplexity under the base
model and distinct-2 of sampled text. From these the safe range, per sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..generation import by_mix, generate
from ..metrics import Estimate, distinct, encode_records, perplexity, text_divergence
from ..states import Progress
from ..steer import Steer, safe_range
from ..text import read_prompts

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

STRENGTHS = (-5.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
PROMPTS, SAMPLES, TOKENS = 24, 4, 20


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
