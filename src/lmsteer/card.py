"""A Hub model card: what a steer's folder is, how to use it, how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .steer import Steer


def card(steer: Steer) -> str:
    """The folder's `README.md`, from the steer and its record alone."""
    base = steer.fingerprint.model if steer.fingerprint is not None else ""
    held_out, data = steer.record.get("held_out"), steer.record.get("data")
    lines = [
        "---",
        "library_name: lmsteer",
        "tags: [lm-steer, steering, controllable-generation]",
        "pipeline_tag: text-generation",
        *([f"base_model: {base}"] if base and base not in ("bundled", "bundled-small") else []),
        "---",
        f"# {steer.name}",
        "",
        f"A steer for `{base or 'an unnamed model'}`: a linear map on its {steer.site} word "
        f"embeddings (dim {steer.dim}, rank {steer.rank}), learned with the model frozen "
        "(LM-Steer, Han et al., ACL 2024).",
        "",
        "```python",
        "import lmsteer",
        f'model, tokenizer = lmsteer.load_model("{base or "MODEL"}")',
        'steer = lmsteer.load_steer("PATH OR HUB ID", model)',
        "with lmsteer.attach(model, {steer: 2.0}):",
        '    model.generate(**tokenizer("My life is", return_tensors="pt"))',
        "```",
        "",
        "Strength 0 is the base model, 1 is what training used for a text labelled +1; negative "
        "strengths give the opposite style.",
    ]
    if data:
        lines += [
            "",
            f"Learned from {data['texts']} texts ({data['positive']} positive, "
            f"{data['negative']} negative, {data['neutral']} neutral; {data['tokens']} tokens; "
            f"solver `{steer.record['solver']}`).",
        ]
        if "source" in steer.record:
            lines.append(f"Source: {steer.record['source']}. The text itself is not here.")
    if held_out:
        lines += [
            "",
            f"Held-out NLL, nats a token, each text at its own label with the domain part on: "
            f"{held_out['nll_base']:.3f} before, {held_out['nll']:.3f} after "
            f"({held_out['tokens']} tokens).",
        ]
    lines += _strengths(steer.record)
    if samples := steer.record.get("samples"):
        lines += ["", "## Samples", "Offensive words are masked.", ""]
        lines += ["| strength | text |", "|---:|---|"]
        for row in samples:
            text = " ".join(row["text"].split()).replace("|", "\\|").replace("<", "&lt;")
            lines.append(f"| {row['strength']:+g} | {text} |")
    return "\n".join(lines) + "\n"


def _strengths(record: Mapping[str, Any]) -> list[str]:
    """What each strength costs (`calibrate`) and, where it was measured, what it does."""
    calibration, effect = record.get("calibration"), record.get("effect")
    if calibration is None:
        return []
    low, high = calibration["safe"]
    found = {row["strength"]: row for row in effect["rows"]} if effect else {}
    header, rule = "| strength | KL | perplexity | distinct-2 |", "|---:|---:|---|---|"
    if effect:
        header, rule = f"{header} share {effect['style']} |", f"{rule}---|"
    lines = [
        "",
        "## Strengths",
        "",
        f"Safe range {low:.2g} to {high:.2g}: there the perplexity of sampled text stays within "
        "1.5 times, and its distinct-2 above 0.9 times, that of unsteered text. KL in nats a "
        f"token; {calibration['prompts']} prompts x {calibration['samples']} samples x "
        f"{calibration['tokens']} tokens, top-p {calibration['top_p']}; 95% intervals over "
        "prompts.",
        "",
        header,
        rule,
    ]
    for row in calibration["rows"]:
        shown = [f"{row['strength']:+g}", f"{row['kl']:.3f}"]
        shown += [
            f"{row[k]:.3g} [{row[k + '_low']:.3g}, {row[k + '_high']:.3g}]"
            for k in ("perplexity", "distinct_2")
        ]
        if effect:
            # None where the table was measured anew at other strengths than the effect.
            seen = found.get(row["strength"])
            rate = seen and f"{seen['rate']:.3f} [{seen['rate_low']:.3f}, {seen['rate_high']:.3f}]"
            shown.append(rate or "")
        lines.append(f"| {' | '.join(shown)} |")
    if effect:
        lines += [
            "",
            f"The share by {effect['judge']}, on {effect['texts']} texts a strength from the "
            f"prompts `{effect['prompts']}`; Spearman of its mean score against strength "
            f"{effect['spearman']:.3f}.",
        ]
    return lines
