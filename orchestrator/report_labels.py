"""How the report writes labels and numbers: sizes in one unit, signed differences, counts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.results import Dropped, Point
from workers.scoring import Interval

MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
NONE = "\N{EM DASH}"
GIGABYTES_FROM = 2_000_000_000
METRIC_NAMES = {
    "chrf": "chrF", "chrf++": "chrF++", "bleu": "BLEU", "ter": "TER", "comet": "COMET", "cometkiwi": "CometKiwi",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Unit:
    """A decimal unit of size, such as MB = 1,000,000 bytes."""

    name: str
    bytes: int

    def of(self, size: int) -> float:
        """The size in this unit."""
        return size / self.bytes

    def text(self, size: int) -> str:
        """The size in this unit, with its name: `5.50 MB`."""
        return f"{self.of(size):,.2f} {self.name}"


MEGABYTES = Unit("MB", 1_000_000)
GIGABYTES = Unit("GB", 1_000_000_000)


def unit_for(points: Iterable[Point | Dropped]) -> Unit:
    """The one unit that every size of a report is written in."""
    return GIGABYTES if max((point.bytes for point in points), default=0) >= GIGABYTES_FROM else MEGABYTES


def kinds_of(points: Iterable[Point]) -> list[str]:
    """The kinds of the points, sorted, the baseline's first: the order that colours and shapes are given in."""
    kinds = {point.record.candidate.kind for point in points}
    return sorted(kinds, key=lambda kind: (kind != "baseline", kind))


def score_of(point: Point, metric: str) -> float | None:
    """The point's score in a metric, the mean over pairs; None where the study did not ask for that metric."""
    return point.measurement.overall(metric) if metric in point.measurement.scores else None


def metric_name(metric: str) -> str:
    """A metric as its field writes it, such as `chrF`."""
    return METRIC_NAMES.get(metric, metric)


def signed(value: float, digits: int = 2) -> str:
    """A difference with its sign, `+0.31`, or with U+2212 below 0; a zero has none."""
    rounded = round(value, digits)
    sign = "+" if rounded > 0 else MINUS if rounded < 0 else ""
    return f"{sign}{abs(rounded):.{digits}f}"


def interval_text(interval: Interval | None) -> str:
    """`+0.02 to +0.11`, or a dash where there is none."""
    return NONE if interval is None else f"{signed(interval.low)} to {signed(interval.high)}"


def ratio_text(ratio: float) -> str:
    """How many times smaller than the baseline, `1.92` and U+00D7; a dash where there is no baseline."""
    return f"{ratio:.2f}{TIMES}" if math.isfinite(ratio) else NONE


def counted(number: int, noun: str) -> str:
    """`1 point`, `2 points`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def differs(point: Point) -> bool:
    """Whether the point's interval leaves out 0: told apart from the baseline."""
    return point.interval is not None and not point.interval.low <= 0.0 <= point.interval.high
