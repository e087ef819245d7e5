"""Where a picture's labels go: beside their points, off each other, off points and off interval bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DIRECTIONS = 16
DISTANCES = (9.0, 16.0, 26.0, 40.0, 58.0, 80.0)
ROUNDS = 4
LEADER_FROM = 12.0
MARKER = 6.0
PADDING = 2.0

# What a label's place costs beside its distance in points: areas in square points, crossings a piece.
ON_LABEL, ON_OBSTACLE, OUTSIDE = 6.0, 3.0, 20.0
LEADER_CROSSED, LEADER_OVER_OBSTACLE = 60.0, 6.0
LEADER_STEPS = 8

Place = tuple[float, float]


class Box(NamedTuple):
    """A rectangle in points (1/72 inch)."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: Box) -> float:
        """The area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(width, 0.0) * max(height, 0.0)

    def nearest(self, place: Place) -> Place:
        """The point of the rectangle that is nearest to a place."""
        return min(max(place[0], self.left), self.right), min(max(place[1], self.bottom), self.top)

    def holds(self, place: Place) -> bool:
        """Whether the place lies inside."""
        return self.left < place[0] < self.right and self.bottom < place[1] < self.top

    @property
    def area(self) -> float:
        return (self.right - self.left) * (self.top - self.bottom)


@dataclass(frozen=True, slots=True)
class Label:
    """A label's anchor point and its size, in points."""

    x: float
    y: float
    width: float
    height: float

    def at(self, angle: float, distance: float) -> Box:
        """The label's box when its nearest edge is `distance` from the anchor, in the direction of `angle`."""
        across, up = math.cos(angle), math.sin(angle)
        middle_x = self.x + across * distance + math.copysign(self.width / 2, across) * min(1.0, abs(across) * 2)
        middle_y = self.y + up * distance + up * self.height / 2
        return Box(
            middle_x - self.width / 2 - PADDING,
            middle_y - self.height / 2 - PADDING,
            middle_x + self.width / 2 + PADDING,
            middle_y + self.height / 2 + PADDING,
        )


class Option(NamedTuple):
    """One place a label could take. leader: the thin line from its point, where it is too far off to need none."""

    box: Box
    distance: float
    leader: tuple[Place, Place] | None


def choose_boxes(labels: Sequence[Label], obstacles: Sequence[Box], frame: Box) -> list[Option]:
    """A place a label, chosen one after another and then again against all the others, by the least cost.

    Cost: overlap with other labels and with obstacles, area outside the frame, distance from the point, and leaders
    that cross each other or run over obstacles.
    """
    options = [_options(label) for label in labels]
    alone = [
        [_cost_alone(option, label, obstacles, frame) for option in places]
        for label, places in zip(labels, options, strict=True)
    ]
    chosen: dict[int, Option] = {}
    for _ in range(ROUNDS):
        for index, places in enumerate(options):
            others = [option for at, option in chosen.items() if at != index]
            costs = [cost + _cost_among(option, others) for option, cost in zip(places, alone[index], strict=True)]
            chosen[index] = places[costs.index(min(costs))]
    return [chosen[index] for index in range(len(labels))]


def _options(label: Label) -> list[Option]:
    anchor = (label.x, label.y)
    places = []
    for distance in DISTANCES:
        for turn in range(DIRECTIONS):
            box = label.at(2 * math.pi * turn / DIRECTIONS, distance)
            end = box.nearest(anchor)
            far = math.dist(anchor, end) >= LEADER_FROM
            places.append(Option(box, distance, (anchor, end) if far else None))
    return places


def _cost_alone(option: Option, label: Label, obstacles: Sequence[Box], frame: Box) -> float:
    outside = option.box.area - option.box.overlap(frame)
    covered = sum(option.box.overlap(obstacle) for obstacle in obstacles)
    over = 0
    if option.leader is not None:
        others = [obstacle for obstacle in obstacles if not obstacle.holds((label.x, label.y))]
        over = sum(any(obstacle.holds(place) for place in _along(option.leader)) for obstacle in others)
    return ON_OBSTACLE * covered + OUTSIDE * outside + LEADER_OVER_OBSTACLE * over + option.distance


def _cost_among(option: Option, others: Sequence[Option]) -> float:
    covered = sum(option.box.overlap(other.box) for other in others)
    crossed = sum(_crosses(option, other) + _crosses(other, option) for other in others)
    return ON_LABEL * covered + LEADER_CROSSED * crossed


def _crosses(one: Option, other: Option) -> bool:
    """Whether one's leader crosses the other's, or runs through its label."""
    if one.leader is None:
        return False
    if any(other.box.holds(place) for place in _along(one.leader)):
        return True
    return other.leader is not None and _segments_cross(*one.leader, *other.leader)


def _along(leader: tuple[Place, Place]) -> list[Place]:
    (x, y), (end_x, end_y) = leader
    return [
        (x + (end_x - x) * step / LEADER_STEPS, y + (end_y - y) * step / LEADER_STEPS)
        for step in range(1, LEADER_STEPS + 1)
    ]


def _segments_cross(a: Place, b: Place, c: Place, d: Place) -> bool:
    def side(p: Place, q: Place, r: Place) -> float:
        return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])

    return side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0


def place_labels(
    axes: Axes,
    labelled: Sequence[tuple[float, float, str]],
    points: Sequence[Place],
    bars: Sequence[tuple[float, float, float]],
    rules: Sequence[float],
    colour: str,
    names: Sequence[tuple[float, float, str]] = (),
) -> None:
    """Write each (x, y, text) near its place, with a thin line where it had to move away.

    points: every marker, (x, y). bars: every interval, (x, low, high). rules: the heights
    of lines across the picture. names: labels of what is no point of the study, which are written faint and in italics.
    The axes must have been drawn once.
    """
    figure = axes.get_figure(root=True)
    every = [*labelled, *names]
    if figure is None or not every:
        return
    scale = 72.0 / figure.dpi

    def place(x: float, y: float) -> Place:
        across, up = axes.transData.transform((x, y))
        return float(across) * scale, float(up) * scale

    markers = [Box(x - MARKER, y - MARKER, x + MARKER, y + MARKER) for x, y in (place(*point) for point in points)]
    lines = [Box(*_widened(place(x, low), place(x, high))) for x, low, high in bars]
    steps = _step_boxes([place(x, y) for x, y, _ in sorted(labelled)])
    texts = [
        axes.annotate(text, (x, y), fontsize=8.5, color=colour, parse_math=False, zorder=6) for x, y, text in every
    ]
    labels = []
    for (x, y, _), text in zip(every, texts, strict=True):
        extent = text.get_window_extent()
        labels.append(Label(*place(x, y), extent.width * scale, extent.height * scale))
        text.remove()
    extent = axes.get_window_extent()
    frame = Box(extent.x0 * scale, extent.y0 * scale, extent.x1 * scale, extent.y1 * scale)
    left, _ = axes.get_xlim()
    levels = [Box(frame.left, place(left, y)[1] - 1, frame.right, place(left, y)[1] + 1) for y in rules]
    options = choose_boxes(labels, [*markers, *lines, *steps, *levels, *_legend_box(axes, scale)], frame)
    for at, ((x, y, shown), label, option) in enumerate(zip(every, labels, options, strict=True)):
        _write(axes, (x, y), shown=shown, label=label, option=option, colour=colour, faint=at >= len(labelled))


def _write(
    axes: Axes, anchor: Place, shown: str, label: Label, option: Option, colour: str, faint: bool = False
) -> None:
    box = option.box
    middle = ((box.left + box.right) / 2 - label.x, (box.bottom + box.top) / 2 - label.y)
    if option.leader is not None:
        end = (option.leader[1][0] - label.x, option.leader[1][1] - label.y)
        line = {"arrowstyle": "-", "color": colour, "alpha": 0.45, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 4}
        axes.annotate("", anchor, xytext=end, textcoords="offset points", arrowprops=line, zorder=6)
    axes.annotate(
        shown,
        anchor,
        xytext=middle,
        textcoords="offset points",
        ha="center",
        va="center",
        fontsize=8.5,
        color=colour,
        alpha=0.65 if faint else 1.0,
        style="italic" if faint else "normal",
        parse_math=False,
        zorder=6,
    )


def _widened(low: Place, high: Place) -> tuple[float, float, float, float]:
    return low[0] - 1.5, min(low[1], high[1]), high[0] + 1.5, max(low[1], high[1])


def _step_boxes(corners: Sequence[Place]) -> list[Box]:
    """Thin boxes along the frontier's step line: level to the next point, then up to it."""
    boxes = []
    for (x, y), (next_x, next_y) in pairwise(corners):
        boxes += [Box(x, y - 1, next_x, y + 1), Box(next_x - 1, min(y, next_y), next_x + 1, max(y, next_y))]
    return boxes


def _legend_box(axes: Axes, scale: float) -> list[Box]:
    legend = axes.get_legend()
    if legend is None:
        return []
    extent = legend.get_window_extent()
    return [Box(extent.x0 * scale, extent.y0 * scale, extent.x1 * scale, extent.y1 * scale)]
