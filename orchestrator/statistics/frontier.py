"""Dominance between points of quality (up), bytes (down) and, where a study has a third objective, its cost (down);
and the floor of quality: pure arithmetic, and exact.

`on_frontier` takes qualities at their word, which is what a search needs to go on. `standings` is what a study says in
the end: a point is beaten only when it is shown to be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from orchestrator.statistics.telling_apart import Matrix

# Measured costs are told apart where one is larger by so much: no timing of a model is quite like its next.
COST_APART = 1.05


class Objectives(NamedTuple):
    """A point's objectives: quality is better when higher, bytes and cost when lower."""

    quality: float
    bytes: int
    cost: float = 0.0
    """Of a third objective; 0 or more, infinite where it could not be measured, and 0 where there are two."""


def dominates(one: Objectives, other: Objectives) -> bool:
    """Whether `one` is at least as good in every objective and better in one."""
    no_worse = one.quality >= other.quality and one.bytes <= other.bytes and one.cost <= other.cost
    return no_worse and one != other


def below_floor(quality: float, baseline: float | None, share: float) -> bool:
    """Whether a quality is below this share of the baseline's, and so of no use at any size.

    share: from 0, which asks for nothing, to below 1. Nothing is below the floor of a baseline that is not known, or
    whose own quality is 0 or less.
    """
    return share > 0 and baseline is not None and baseline > 0 and quality < share * baseline


def on_frontier(losses: Sequence[Objectives]) -> list[bool]:
    """For each point, whether no other dominates it; equal points stand or fall together. O(n log n) where costs are
    alike, else O(n²).

    Sorted by bytes, then by falling quality, a point is dominated exactly when something before it, and unlike it, has
    at least its quality.
    """
    if len({loss.cost for loss in losses}) > 1:
        return [not any(dominates(other, one) for other in losses) for one in losses]
    order = sorted(range(len(losses)), key=lambda position: (losses[position].bytes, -losses[position].quality))
    kept = [False] * len(losses)
    best: Objectives | None = None
    for position in order:
        loss = losses[position]
        if best is None or loss.quality > best.quality:
            best = loss
        kept[position] = loss == best
    return kept


class Standing(NamedTuple):
    """What is said of a point, and of which other one by its index: that which beats it, or the point of the frontier
    that it is not told apart from; None for a point of the frontier."""

    place: Literal["frontier", "not told apart", "beaten"]
    by: int | None = None


def standings(losses: Sequence[Objectives], better: Matrix) -> list[Standing]:
    """Where each point stands, when only what is shown counts.

    better: whether the first of two is shown to be better in quality than the second, shape (points, points); it must
    be transitive and never hold both ways (`shown_better`). By rising bytes:

    - a point is *beaten* by one of no more bytes that is shown to be better; of these the best by quality is named;
    - else it is on the *frontier* if it is shown to be better than every point of the frontier before it: with two
      objectives, than the last one;
    - else it is *not told apart* from the last of those that it is not shown to be better than.

    With a third objective only points that cost no more are compared, as far as costs are told apart (COST_APART): a
    point that costs less than every smaller one is on the frontier whatever it keeps.

    So the smallest point is on the frontier, each next one is shown to be better than all before, and every other point
    that is not beaten is in one group alone, whose smallest point stands for it. Of equal bytes the better one by
    quality comes first, then the cheaper, then the earlier.
    """
    order = sorted(range(len(losses)), key=lambda at: (losses[at].bytes, -losses[at].quality, losses[at].cost, at))
    found: dict[int, Standing] = {}
    front: list[int] = []
    for place, at in enumerate(order):
        most = losses[at].cost * COST_APART
        beating = [other for other in order[:place] if losses[other].cost <= most and better[other][at]]
        alike = [other for other in front if losses[other].cost <= most and not better[at][other]]
        if beating:
            found[at] = Standing("beaten", max(beating, key=lambda other: (losses[other].quality, -other)))
        elif alike:
            found[at] = Standing("not told apart", alike[-1])
        else:
            found[at] = Standing("frontier")
            front.append(at)
    return [found[at] for at in range(len(losses))]


def hypervolume(losses: Sequence[Objectives], reference: Objectives) -> float:
    """The area (quality × bytes) that the frontier dominates and the reference point bounds; 0 with no point inside."""
    front = sorted({loss for loss, kept in zip(losses, on_frontier(losses), strict=True) if kept})
    area, floor = 0.0, reference.quality
    for loss in front:
        if loss.quality > floor and loss.bytes < reference.bytes:
            area += (loss.quality - floor) * (reference.bytes - loss.bytes)
            floor = loss.quality
    return area
