"""What each export says about the steers in it."""

from __future__ import annotations

from typing import Any

from ...steer import strength_texts
from ..display import err, escape


def told(facts: dict[str, Any]) -> None:
    """Print one line per steer."""
    texts = strength_texts([fact["strength"] for fact in facts["steers"]])
    for fact, text in zip(facts["steers"], texts, strict=True):
        err.print(f"{escape(fact['name'])} at {text}; {fact['domain']}")
