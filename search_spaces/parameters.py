"""Checks that the methods' dataclasses share: a parameter is one of the allowed values, or lies within its bounds."""

from __future__ import annotations

from search_spaces.errors import CandidateError

GROUP_SIZES = (32, 64, 128, -1)
WIDTHS = (8, 4, 3, 2)
# Below so many bits a zero point is worth its bytes (0.5 % of the file). GPTQ's divergence at 3 bits was 0.169 nats
# with one and 0.229 without, at 2 bits 0.94 and 15.9 (half a billion parameters); 0.057 and 0.069, 0.33 and 0.43 (5
# million).
ZERO_POINTS_BELOW = 4
# Tokens that calibration statistics are taken over, where a study says nothing else.
DEFAULT_CALIBRATION_TOKENS = 65_536


def one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    """Raise CandidateError unless the value equals one of the allowed ones and has their type."""
    if value not in allowed or type(value) is not type(allowed[0]):
        raise CandidateError(f"{name} is {value!r}; it must be one of {', '.join(map(str, allowed))}")


def whole(name: str, value: object, least: int, way_out: str) -> None:
    """Raise CandidateError unless the value is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise CandidateError(f"{name} is {value!r}; it must be a whole number of at least {least}. {way_out}")


def between(name: str, value: object, low: float, high: float) -> None:
    """Raise CandidateError unless the value is a float within [low, high]."""
    if not isinstance(value, float) or not low <= value <= high:
        raise CandidateError(f"{name} is {value!r}; it must be a number with a point, from {low} to {high}")
