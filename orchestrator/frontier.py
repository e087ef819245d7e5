"""Dominance between points of quality (up) and bytes (down), and the floor of quality: pure arithmetic, and exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Loss(NamedTuple):
    """A point's two objectives: quality is better when higher, bytes when lower."""

    quality: float
    bytes: int


def dominates(one: Loss, other: Loss) -> bool:
    """Whether `one` is at least as good in both objectives and better in one."""
    return one.quality >= other.quality and one.bytes <= other.bytes and one != other


def below_floor(quality: float, baseline: float | None, share: float) -> bool:
    """Whether a quality is below this share of the baseline's, and so of no use at any size.

    share: from 0, which asks for nothing, to below 1. Nothing is below the floor of a baseline that is not known, or
    whose own quality is 0 or less.
    """
    return share > 0 and baseline is not None and baseline > 0 and quality < share * baseline


def on_frontier(losses: Sequence[Loss]) -> list[bool]:
    """For each point, whether no other dominates it; equal points stand or fall together. O(n log n).

    Sorted by bytes, then by falling quality, a point is dominated exactly when something before it, and unlike it, has
    at least its quality.
    """
    order = sorted(range(len(losses)), key=lambda position: (losses[position].bytes, -losses[position].quality))
    kept = [False] * len(losses)
    best: Loss | None = None
    for position in order:
        loss = losses[position]
        if best is None or loss.quality > best.quality:
            best = loss
        kept[position] = loss == best
    return kept


def hypervolume(losses: Sequence[Loss], reference: Loss) -> float:
    """The area (quality × bytes) that the frontier dominates and the reference point bounds; 0 with no point inside."""
    front = sorted({loss for loss, kept in zip(losses, on_frontier(losses), strict=True) if kept})
    area, floor = 0.0, reference.quality
    for loss in front:
        if loss.quality > floor and loss.bytes < reference.bytes:
            area += (loss.quality - floor) * (reference.bytes - loss.bytes)
            floor = loss.quality
    return area
