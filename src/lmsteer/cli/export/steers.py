"""What each export tells of the steers in it."""

from __future__ import annotations

from typing import Any

from ..display import err, escape


def told(facts: dict[str, Any]) -> None:
    """A line a steer."""
    for fact in facts["steers"]:
        err.print(f"{escape(fact['name'])} at {fact['strength']:+g}; {fact['domain']}")
