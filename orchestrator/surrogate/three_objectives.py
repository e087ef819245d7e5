"""What a candidate is expected to add to a frontier of three objectives: bytes and cost are known, quality is drawn.

The hypervolume is over (log bytes, log cost, kept share of quality), so that a factor of size or of cost counts alike
everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from orchestrator.surrogate.acquisition import Array, expected_sum

# How far the corner lies beyond the dearest row: a share of what costs span, and at the least, in log cost.
BEYOND, LEAST_BEYOND = 0.2, 0.1


class Placed(NamedTuple):
    """A point of the frontier, or one that is expected there."""

    log_bytes: float
    kept: float
    log_cost: float


class Corner(NamedTuple):
    """Where the hypervolume ends: only what is smaller, cheaper and better than this adds to it."""

    log_bytes: float
    log_cost: float
    kept: float


class Bands(NamedTuple):
    """What rows would newly dominate, band by band of the kept share.

    levels: where each band begins, rising from the corner's share (bands,); the last has no end. areas: what each row
    would newly dominate in each, in log bytes times log cost (rows, bands). reached: the hypervolume of the points.
    """

    levels: Array
    areas: Array
    reached: float


def bands_of(points: Sequence[Placed], log_bytes: Array, log_costs: Array, corner: Corner) -> Bands:
    """The bands between the shares that these points keep, for rows of these log bytes and log costs (rows,)."""
    able = [
        one
        for one in points
        if one.kept > corner.kept and one.log_bytes < corner.log_bytes and one.log_cost < corner.log_cost
    ]
    levels = [corner.kept, *sorted({one.kept for one in able})]
    areas, reached = np.zeros((len(log_bytes), len(levels))), 0.0
    for band, level in enumerate(levels):
        stairs = _stairs([one for one in able if one.kept > level])
        areas[:, band] = _uncovered(stairs, log_bytes, log_costs, corner)
        if band + 1 < len(levels):
            reached += _covered(stairs, corner) * (levels[band + 1] - level)
    return Bands(np.array(levels), areas, reached)


def expected_volume(bands: Bands, mean: Array, deviation: Array) -> Array:
    """The hypervolume that each row adds in expectation, its kept share being normal (rows,)."""
    return expected_sum(bands.levels, bands.areas, mean, deviation)


def _stairs(points: Sequence[Placed]) -> list[tuple[float, float]]:
    """(log bytes, log cost) of the points that no other is smaller and cheaper than, by rising bytes."""
    found: list[tuple[float, float]] = []
    for one in sorted(points, key=lambda point: (point.log_bytes, point.log_cost)):
        if not found or one.log_cost < found[-1][1]:
            found.append((one.log_bytes, one.log_cost))
    return found


def _covered(stairs: Sequence[tuple[float, float]], corner: Corner) -> float:
    ends = [size for size, _ in stairs[1:]] + [corner.log_bytes]
    return sum((end - size) * (corner.log_cost - cost) for (size, cost), end in zip(stairs, ends, strict=True))


def _uncovered(stairs: Sequence[tuple[float, float]], log_bytes: Array, log_costs: Array, corner: Corner) -> Array:
    """Of what each row dominates, the part that no point does (rows,)."""
    found: Array = np.zeros(len(log_bytes))
    begins = [-np.inf, *(size for size, _ in stairs)]
    ends = [*begins[1:], corner.log_bytes]
    costs = [corner.log_cost, *(cost for _, cost in stairs)]
    for begin, end, cost in zip(begins, ends, costs, strict=True):
        found += np.maximum(end - np.maximum(log_bytes, begin), 0.0) * np.maximum(cost - log_costs, 0.0)
    return found


def worst_cost(log_costs: Array) -> float:
    """The corner's log cost: beyond the dearest row's, so that what is dear can still add something."""
    dearest, cheapest = float(log_costs.max()), float(log_costs.min())
    return dearest + max(BEYOND * (dearest - cheapest), LEAST_BEYOND)
