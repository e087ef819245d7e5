"""What a plot shows: which stretch of quality, however far below the frontier other trials lie, and which axis of
sizes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from orchestrator.results.points import Point, Results

# How far below the frontier, as a share of what it spans, trials that are beaten are still shown where they are.
BELOW = 0.5
MARGIN = 0.08
# In points of quality: of less the axis would make much.
LEAST_SPAN = 1.0
# Sizes that are so many times apart stand on a logarithmic axis: equal ratios are equally wide.
LOGARITHMIC_FROM = 4.0
# Combinations of methods of which no point stands share a colour and a line of the legend.
OTHERS = "other combinations, none of which stands"


def quality_range(results: Results) -> tuple[float, float] | None:
    """The lowest and the highest quality of a plot's axis; None where nothing stands, or everything compressed is kept
    off, and all is to be shown.

    It spans the baseline, the frontier and what is not told apart from it, with their intervals, and beaten points that
    are not far below. What is kept off or was dropped early does not widen it, and is marked at its edge.
    """
    standing = [value for point in results.points if stands(point) for value in _reach(point, results.baseline)]
    compressed = [point for point in results.points if point.steps]
    if not standing or (compressed and all(point.kept_off for point in compressed)):
        return None
    low, high = min(standing), max(standing)
    span = max(high - low, LEAST_SPAN)
    near = [point.quality for point in results.points if not point.kept_off and point.quality >= low - BELOW * span]
    low, high = min([low, *near]), max([high, *near])
    room = MARGIN * max(high - low, LEAST_SPAN)
    return low - room, high + room


def is_logarithmic(sizes: Iterable[float]) -> bool:
    """Whether sizes, in any unit, stand on a logarithmic axis."""
    found = list(sizes)
    return bool(found) and max(found) >= LOGARITHMIC_FROM * min(found)


def stands(point: Point) -> bool:
    """Whether it is a point to choose, or the baseline."""
    return point.on_frontier or point.tie is not None or not point.steps


def _reach(point: Point, baseline: Point | None) -> Iterator[float]:
    yield point.quality
    if (bounds := interval_bounds(point, baseline)) is not None:
        yield from bounds


def interval_bounds(point: Point, baseline: Point | None) -> tuple[float, float] | None:
    """The ends of a point's interval, drawn from the baseline's quality; None where there is none to draw."""
    if point.interval is None or baseline is None or not point.steps:
        return None
    return baseline.quality + point.interval.low, baseline.quality + point.interval.high
