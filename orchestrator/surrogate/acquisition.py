"""What measuring a candidate is expected to add to the frontier. Its bytes are known, so only its quality is drawn.

The gain is of hypervolume over (log bytes, kept share of quality), so that a factor of size counts alike everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


class Front(NamedTuple):
    """The points that nothing dominates, by rising log bytes, which is by rising quality too; both (points,)."""

    log_bytes: Array
    kept: Array


def front_of(log_bytes: Sequence[float] | Array, kept: Sequence[float] | Array, floor: float, most: float) -> Front:
    """The frontier of these points, of those above the floor and below the log bytes `most`."""
    found: list[tuple[float, float]] = []
    best = floor
    for size, quality in sorted(zip(log_bytes, kept, strict=True), key=lambda point: (point[0], -point[1])):
        if quality > best and size < most:
            found.append((size, quality))
            best = quality
    return Front(np.array([size for size, _ in found]), np.array([quality for _, quality in found]))


def expected_gain(front: Front, log_bytes: Array, mean: Array, deviation: Array, floor: float, most: float) -> Array:
    """The hypervolume that a point of these log bytes (n,) adds in expectation, its quality being normal (n,); bounded
    by the floor and by the log bytes `most`.

    A quality q at size s adds, between the levels of the frontier, the width from s to the size that reaches the level
    first: an integral of P(quality > q) over q, piece by piece in closed form.
    """
    levels = np.concatenate([[floor], front.kept])
    # Between two levels what is dominated begins at the size of the upper one; above the last at `most`.
    reaches = np.concatenate([front.log_bytes, [most]])
    width = np.maximum(reaches[None, :] - log_bytes[:, None], 0.0)
    return expected_sum(levels, width, mean, deviation)


def expected_sum(levels: Array, width: Array, mean: Array, deviation: Array) -> Array:
    """The integral over q of P(quality > q) times what is new at q (n,), the quality being normal (n,). levels: where
    each band of q begins, rising; the last has no end (bands,). width: what is new in each (n, bands)."""
    above = _expected_above(mean[:, None], deviation[:, None], levels[None, :])
    beyond = np.concatenate([above[:, 1:], np.zeros((len(mean), 1))], axis=1)
    gained: Array = (width * (above - beyond)).sum(axis=1)
    return gained


def expected_saving(smallest: float, log_bytes: Array, mean: Array, deviation: Array, target: float) -> Array:
    """The log bytes that a point saves in expectation over the smallest that is known to reach the target: of those of
    its size (n,), if its quality, which is normal (n,), reaches it too."""
    from scipy.special import ndtr

    found: Array = np.maximum(smallest - log_bytes, 0.0) * ndtr((mean - target) / deviation)
    return found


def _expected_above(mean: Array, deviation: Array, level: Array) -> Array:
    """E[max(quality − level, 0)] of a normal quality."""
    from scipy.special import ndtr

    away = (mean - level) / deviation
    density = np.exp(-0.5 * away**2) / np.sqrt(2.0 * np.pi)
    found: Array = deviation * density + (mean - level) * ndtr(away)
    return found


def ladder(log_bytes: Array, expected: Array, count: int, least: float, apart: float) -> list[int]:
    """So many candidates spread over sizes, the largest first: those that are expected best at or below `count` even
    steps of log bytes, among those expected to keep at least this share.

    Steps that the same candidate wins give one. One that is expected to keep less than `apart` more than the next
    smaller is left out.
    """
    able = np.flatnonzero(expected >= least)
    if not len(able):
        able = np.arange(len(expected))
    order = able[np.lexsort((-expected[able], log_bytes[able]))]
    best = np.maximum.accumulate(expected[order])
    steps = np.linspace(log_bytes[order].min(), log_bytes[order].max(), count)
    found: list[int] = []
    for step in steps[::-1]:
        inside = np.flatnonzero(log_bytes[order] <= step + 1e-9)
        # The first that is as good as any of no more bytes: of ties the smallest.
        chosen = int(order[np.flatnonzero(expected[order] >= best[inside[-1]])[0]])
        if chosen not in found:
            found.append(chosen)
    kept: list[int] = []
    for row in reversed(found):
        if not kept or expected[row] >= expected[kept[-1]] + apart:
            kept.append(row)
    return kept[::-1]
