"""Model cards for the Hub: a steer's own, and what the cards of exports share with it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..steer import Calibration, Effect, Provenance, Steer, read_provenance, strength_texts
from ..text import code, markdown, quoted

_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)


def card(steer: Steer) -> str:
    """The folder's `README.md`: what the steer is, how to use it, how it was made."""
    base = steer.fingerprint.model if steer.fingerprint is not None else ""
    told = read_provenance(steer.record)
    lines = [
        *front_matter(
            ["lm-steer", "steering", "controllable-generation"],
            library="lmsteer",
            pipeline="text-generation",
            base=base,
        ),
        f"# {markdown(steer.name)}",
        "",
        f"A steer for {code(base or 'an unnamed model')}: a linear map on its {steer.site} word "
        f"embeddings (dim {steer.dim}, rank {steer.rank}), learned with the model frozen "
        "(LM-Steer, Han et al., ACL 2024).",
        "",
        "```python",
        "import lmsteer",
        "",
        f"model, tokenizer = lmsteer.load_model({quoted(base or 'MODEL')})",
        'steer = lmsteer.load_steer("PATH OR HUB ID", model)',
        "with lmsteer.attach(model, {steer: 2.0}):",
        '    model.generate(**tokenizer("My life is", return_tensors="pt"))',
        "```",
        "",
        "Strength 0 is the base model. Strengths above 0 lead to texts like those labelled +1, "
        "strengths below 0 to texts like those labelled -1."
        + (" It acts on the prompt alone." if steer.where == "prompt" else ""),
    ]
    lines += _making(told)
    if steer.calibration is not None:
        lines += _strengths(steer.calibration, steer.effect)
    if told.samples:
        lines += ["", "## Samples", "Offensive words are masked.", ""]
        lines += ["| strength | text |", "|---:|---|"]
        texts = strength_texts([sample.strength for sample in told.samples])
        for sample, strength in zip(told.samples, texts, strict=True):
            lines.append(f"| {strength} | {markdown(sample.text)} |")
    return "\n".join(lines) + "\n"


def front_matter(
    tags: Iterable[str], *, library: str | None = None, pipeline: str | None = None, base: str = ""
) -> list[str]:
    """The lines at the head of a card that the Hub reads.

    Args:
        tags: What the Hub finds it by.
        library: The library that loads it.
        pipeline: The task that it is for, by the Hub's name.
        base: The name of the base model; it is left out where the Hub cannot know it.
    """
    return [
        "---",
        *([f"library_name: {library}"] if library else []),
        f"tags: [{', '.join(tags)}]",
        *([f"pipeline_tag: {pipeline}"] if pipeline else []),
        *_base_model(base),
        "---",
    ]


def steer_lines(steers: Sequence[Mapping[str, Any]], *, site: bool = False) -> list[str]:
    """A line for each steer that is part of a model or an adapter.

    Args:
        steers: The ``name``, ``strength`` and ``site`` of each, and what became of its ``domain``
            part, in words.
        site: Whether to say at which site each one acts.
    """
    texts = strength_texts([steer["strength"] for steer in steers])
    return [
        f"- {markdown(steer['name'])} at {text}"
        + (f" ({steer['site']} site)" if site else "")
        + f"; {steer['domain']}"
        for steer, text in zip(steers, texts, strict=True)
    ]


def _base_model(name: str) -> list[str]:
    is_file = name in ("bundled", "bundled-small") or name.lower().endswith(".gguf")
    if is_file or not _HUB_ID.fullmatch(name):
        return []
    # YAML would read some names without a slash as something else: null, 1.0.
    return [f"base_model: {name if '/' in name else quoted(name)}"]


def _making(told: Provenance) -> list[str]:
    """What the steer was learned from, and how well it predicts texts that it did not see."""
    lines = []
    if data := told.data:
        lines += [
            "",
            f"Learned from {data.texts} texts ({data.positive} positive, {data.negative} negative, "
            f"{data.neutral} neutral; {data.tokens} tokens; solver {code(told.solver)}).",
        ]
        if told.source is not None:
            lines.append(f"Source: {markdown(told.source)}. The text itself is not here.")
    if copy := told.model_copy:
        packed = f", packed as {code(str(copy['packing']))}" if copy.get("packing") else ""
        lines += [
            "",
            f"Learned on a copy of the model's weights{packed} "
            f"({code(str(copy.get('file', '')))}).",
        ]
    if held_out := told.held_out:
        lines += [
            "",
            "Held-out NLL, in nats per token, each text at its own label with the domain part on: "
            f"{held_out.nll_base:.3f} before, {held_out.nll:.3f} after ({held_out.tokens} tokens).",
        ]
    return lines


def _strengths(calibration: Calibration, effect: Effect | None) -> list[str]:
    """What each strength costs (`calibrate`) and, where it was measured, what it does."""
    low, high = calibration.safe
    found = {row.strength: row for row in effect.rows} if effect else {}
    header, rule = "| strength | KL | perplexity | distinct-2 |", "|---:|---:|---|---|"
    if effect:
        header, rule = f"{header} share {markdown(effect.style)} |", f"{rule}---|"
    lines = [
        "",
        "## Strengths",
        "",
        f"Safe range {low:.2g} to {high:.2g}: there the perplexity of sampled text stays within "
        "1.5 times, and its distinct-2 above 0.9 times, that of unsteered text. KL in nats per "
        f"token; {calibration.prompts} prompts x {calibration.samples} samples x "
        f"{calibration.tokens} tokens, top-p {calibration.top_p}; 95% intervals over prompts.",
        "",
        header,
        rule,
    ]
    texts = strength_texts([row.strength for row in calibration.rows])
    for row, strength in zip(calibration.rows, texts, strict=True):
        shown = [
            strength,
            f"{row.kl:.3f}",
            f"{row.perplexity:.3g} [{row.perplexity_low:.3g}, {row.perplexity_high:.3g}]",
            f"{row.distinct_2:.3g} [{row.distinct_2_low:.3g}, {row.distinct_2_high:.3g}]",
        ]
        if effect:
            rate = found.get(row.strength)  # measured at other strengths too, or at fewer
            shown.append(
                f"{rate.rate:.3f} [{rate.rate_low:.3f}, {rate.rate_high:.3f}]" if rate else ""
            )
        lines.append(f"| {' | '.join(shown)} |")
    if effect:
        lines += [
            "",
            f"The share by {markdown(effect.judge)}, on {effect.texts} texts per strength from the "
            f"prompts {code(effect.prompts)}; Spearman of its mean score against strength "
            f"{effect.spearman:.3f}.",
        ]
    return lines
