"""The hypervolume over (log bytes, kept share of the baseline's quality): of a frontier, of each point's own part, and
as a search goes on. A factor of size counts alike everywhere."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from orchestrator.statistics.frontier import Objectives


def hypervolume_over_log_bytes(points: Sequence[Objectives], baseline: Objectives, floor: float) -> float:
    """The area that the points dominate, between the floor and their kept shares, below the baseline's bytes.

    floor: the share of the baseline's quality at which the area begins. In natural log of bytes times kept share; 0
    where the baseline's quality is 0 or less.
    """
    if baseline.quality <= 0:
        return 0.0
    shares = ((math.log(point.bytes), point.quality / baseline.quality) for point in points)
    return dominated_area(shares, math.log(baseline.bytes), floor)


def dominated_area(points: Iterable[tuple[float, float]], most: float, floor: float) -> float:
    """The area that points of (log bytes, kept share) dominate, above the floor and below the log bytes `most`."""
    area, reached = 0.0, floor
    for size, kept in sorted(points, key=lambda point: (point[0], -point[1])):
        if kept > reached and size < most:
            area += (kept - reached) * (most - size)
            reached = kept
    return area


def own_shares(points: Sequence[Objectives], baseline: Objectives, floor: float) -> list[float]:
    """Of each point, what the whole hypervolume would lose without it, as a share of the whole; 0 where the whole is 0.

    Of two equal points neither has a part of its own.
    """
    whole = hypervolume_over_log_bytes(points, baseline, floor)
    if whole <= 0:
        return [0.0] * len(points)
    without = ([*points[:at], *points[at + 1 :]] for at in range(len(points)))
    return [1.0 - hypervolume_over_log_bytes(rest, baseline, floor) / whole for rest in without]


class GrowingFront:
    """The points that nothing dominates, as they come, and their hypervolume."""

    def __init__(self, baseline: Objectives, floor: float) -> None:
        self._baseline = baseline
        self._floor = floor
        self._front: list[Objectives] = []
        self.hypervolume = 0.0

    def add(self, point: Objectives) -> None:
        """Take in a further point."""
        if any(one.quality >= point.quality and one.bytes <= point.bytes for one in self._front):
            return
        beaten = (one for one in self._front if not (point.quality >= one.quality and point.bytes <= one.bytes))
        self._front = [*beaten, point]
        self.hypervolume = hypervolume_over_log_bytes(self._front, self._baseline, self._floor)

    def smallest(self, share: float) -> Objectives | None:
        """The smallest point that keeps this share of the baseline's quality."""
        able = [one for one in self._front if one.quality >= share * self._baseline.quality]
        return min(able, key=lambda one: one.bytes, default=None)
