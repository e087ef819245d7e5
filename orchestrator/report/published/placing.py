"""Where a published point stands in a study's plot: a share of another model's size and quality is that share here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.number_format import metric_name
from orchestrator.report.published.points_file import PublishedPoint
from orchestrator.results.points import Results

NAME = "published, of other people's models on their own data"
# A model of other bytes must not squeeze the plot.
LARGEST = 1.25
BELOW, ABOVE = " \N{DOWNWARDS ARROW}", " \N{UPWARDS ARROW}"


@dataclass(frozen=True, slots=True)
class Placed:
    """A published point in a study's plot."""

    point: PublishedPoint
    """What was published."""
    bytes: float
    """Where it stands in size."""
    quality: float
    """Where it stands in quality."""


def placed(points: Sequence[PublishedPoint], results: Results) -> list[Placed]:
    """The points that the plot can show.

    A ratio, or a share kept, is taken of this study's baseline, since it says more of another model than its bytes or
    its score; where a point has only these, they count as they are.
    """
    return [one for point in points if isinstance(one := place_or_why(point, results), Placed)]


def place_or_why(point: PublishedPoint, results: Results) -> Placed | str:
    """Where the plot shows it, or why it does not."""
    if point.metric != results.metric:
        return f"not drawn: in {metric_name(point.metric)}, and the plot is of {metric_name(results.metric)}"
    size, quality = _size(point, results), _quality(point, results)
    if size is None or quality is None:
        return "not drawn: there is no baseline to take its shares of"
    if size > LARGEST * max((one.bytes for one in results.points), default=0):
        return "not drawn: its bytes are those of a far larger model; with its ratio it would be"
    return Placed(point, size, quality)


def marked_name(one: Placed, shown: tuple[float, float] | None) -> str:
    """Its name, with an arrow where it lies beyond the plot's axis. shown: the qualities at the axis' ends."""
    beyond = "" if shown is None else BELOW if one.quality < shown[0] else ABOVE if one.quality > shown[1] else ""
    return f"{one.point.label}{beyond}"


def _size(point: PublishedPoint, results: Results) -> float | None:
    if point.ratio is not None:
        return results.baseline.bytes / point.ratio if results.baseline else None
    return None if point.bytes is None else float(point.bytes)


def _quality(point: PublishedPoint, results: Results) -> float | None:
    if point.kept_percent is not None:
        return results.baseline.quality * point.kept_percent / 100 if results.baseline else None
    return point.score
