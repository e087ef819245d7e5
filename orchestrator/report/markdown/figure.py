"""A figure of a page: its value, what it is, and why it has none."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """value: None where it was not measured; `why` then says why, and else is empty. about: what it is."""

    value: float | int | None
    about: str
    why: str


def of(value: float | int | None, about: str, why: str) -> Figure:
    """The figure. why: the reason where there is no value."""
    return Figure(value, about, why if value is None else "")
