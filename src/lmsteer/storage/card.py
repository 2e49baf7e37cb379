"""A Hub model card: what a steer's folder is, how to use it, how it was made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..steer import Steer, strength_texts
from ..text import code, markdown, quoted

_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)


def card(steer: Steer) -> str:
    """The folder's `README.md`, from the steer and its record alone."""
    base = steer.fingerprint.model if steer.fingerprint is not None else ""
    held_out, data = steer.record.get("held_out"), steer.record.get("data")
    lines = [
        "---",
        "library_name: lmsteer",
        "tags: [lm-steer, steering, controllable-generation]",
        "pipeline_tag: text-generation",
        *base_model(base),
        "---",
        f"# {markdown(steer.name)}",
        "",
        f"A steer for {code(base or 'an unnamed model')}: a linear map on its {steer.site} word "
        f"embeddings (dim {steer.dim}, rank {steer.rank}), learned with the model frozen "
        "(LM-Steer, Han et al., ACL 2024).",
        "",
        "```python",
        "import lmsteer",
        f"model, tokenizer = lmsteer.load_model({quoted(base or 'MODEL')})",
        'steer = lmsteer.load_steer("PATH OR HUB ID", model)',
        "with lmsteer.attach(model, {steer: 2.0}):",
        '    model.generate(**tokenizer("My life is", return_tensors="pt"))',
        "```",
        "",
        "Strength 0 is the base model, 1 is what training used for a text labelled +1; negative "
        "strengths give the opposite style."
        + (" It acts on the prompt alone." if steer.where == "prompt" else ""),
    ]
    if data:
        lines += [
            "",
            f"Learned from {data['texts']} texts ({data['positive']} positive, "
            f"{data['negative']} negative, {data['neutral']} neutral; {data['tokens']} tokens; "
            f"solver {code(str(steer.record['solver']))}).",
        ]
        if "source" in steer.record:
            source = markdown(str(steer.record["source"]))
            lines.append(f"Source: {source}. The text itself is not here.")
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
        texts = strength_texts([row["strength"] for row in samples])
        for row, strength in zip(samples, texts, strict=True):
            lines.append(f"| {strength} | {markdown(row['text'])} |")
    return "\n".join(lines) + "\n"


def base_model(name: str) -> list[str]:
    """The line of a card's front matter that names the base model, where the Hub may know it."""
    if name in ("bundled", "bundled-small") or not _HUB_ID.fullmatch(name):
        return []
    # YAML would read some names without a slash as something else: null, 1.0.
    return [f"base_model: {name if '/' in name else quoted(name)}"]


def _strengths(record: Mapping[str, Any]) -> list[str]:
    """What each strength costs (`calibrate`) and, where it was measured, what it does."""
    calibration, effect = record.get("calibration"), record.get("effect")
    if calibration is None:
        return []
    low, high = calibration["safe"]
    found = {row["strength"]: row for row in effect["rows"]} if effect else {}
    header, rule = "| strength | KL | perplexity | distinct-2 |", "|---:|---:|---|---|"
    if effect:
        header, rule = f"{header} share {markdown(str(effect['style']))} |", f"{rule}---|"
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
    texts = strength_texts([row["strength"] for row in calibration["rows"]])
    for row, strength in zip(calibration["rows"], texts, strict=True):
        shown = [strength, f"{row['kl']:.3f}"]
        shown += [
            f"{row[k]:.3g} [{row[k + '_low']:.3g}, {row[k + '_high']:.3g}]"
            for k in ("perplexity", "distinct_2")
        ]
        if effect:
            seen = found.get(row["strength"])  # measured at other strengths too, or at fewer
            shown.append(
                f"{seen['rate']:.3f} [{seen['rate_low']:.3f}, {seen['rate_high']:.3f}]"
                if seen
                else ""
            )
        lines.append(f"| {' | '.join(shown)} |")
    if effect:
        lines += [
            "",
            f"The share by {markdown(str(effect['judge']))}, on {effect['texts']} texts a strength "
            f"from the prompts {code(str(effect['prompts']))}; Spearman of its mean score "
            f"against strength {effect['spearman']:.3f}.",
        ]
    return lines
