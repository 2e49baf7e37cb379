"""Texts with their evidence, as one HTML page that needs no other file."""

from __future__ import annotations

import html
from collections.abc import Sequence

from ..text import visible
from .spans import Evidence

_STYLE = """
body { font: 16px/1.7 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem;
       background: #fff; color: #222 }
p { white-space: pre-wrap; overflow-wrap: anywhere } u { text-decoration-thickness: 2px }
small { color: #666 } span { border-radius: 3px }
"""
# Blue for the style, orange against it: told apart by colour-blind readers too.
FOR, AGAINST = (0, 114, 178), (213, 94, 0)
FULL = 2.0
"""The ratio at which a token's colour is full, in nats."""


def page(texts: Sequence[Evidence], name: str, *, strength: float) -> str:
    """A page that stands alone: each token is coloured by its ratio, the best spans are underlined.

    Args:
        texts: The texts with their evidence, as `evidence` returns them.
        name: The name of the steer.
        strength: The strength at which the texts were read.
    """
    body = "\n".join(
        f"<p>{_marked(found)}</p>\n<small>sum {found.ratio:+.2f} nats over "
        f"{len(found.tokens)} tokens</small>"
        for found in texts
    )
    title = _shown(name)
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>\n'
        f"<style>{_STYLE}</style>\n<h1>{title}</h1>\n"
        f"<small>log P at {strength:+g} less log P at {-strength:+g}: blue speaks for the style, "
        f"orange against it; underlined, the best spans. Hover for nats.</small>\n{body}\n</html>\n"
    )


def _marked(found: Evidence) -> str:
    parts, at = [], 0
    underlined = [False] * len(found.text)
    for span in found.spans:
        underlined[span.start : span.end] = [True] * (span.end - span.start)
    for token in found.tokens:
        if token.end <= at:  # a further byte of a character that is written already
            continue
        parts.append(_shown(found.text[at : token.start]))
        start = max(at, token.start)
        piece = _shown(found.text[start : token.end])
        if any(underlined[start : token.end]):
            piece = f"<u>{piece}</u>"
        red, green, blue = FOR if token.ratio > 0 else AGAINST
        alpha = 0.6 * min(1.0, abs(token.ratio) / FULL)
        parts.append(
            f'<span title="{token.ratio:+.2f}" '
            f'style="background:rgba({red},{green},{blue},{alpha:.2f})">{piece}</span>'
        )
        at = token.end
    return "".join(parts) + _shown(found.text[at:])


def _shown(text: str) -> str:
    """The text as the page shows it, with line breaks and tabs kept."""
    return html.escape(visible(text, keep="\n\t"))
