"""Words that numbers are written with, wherever a candidate is named."""

from __future__ import annotations

MINUS = "\N{MINUS SIGN}"


def pluralize(number: int, noun: str) -> str:
    """`1 point`, `2 points`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def percent(share: float) -> str:
    """A share as `40%`."""
    return f"{100 * share:g}%"
