"""What a study found, worked out from its ledger alone: each point with its interval, the frontier, and its ties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.frontier import Loss, on_frontier
from orchestrator.intervals import Intervals
from orchestrator.ledger import TrialRecord
from orchestrator.standing import kept_off, race_text
from search_spaces.outcome import Failure, Measurement, Race, Speed
from workers.scoring import Interval

DEFAULT_QUALITY = "chrf"
# What a study's quality can be; where both are measured, each has its interval.
QUALITIES = ("chrf", "comet")
METRIC_ORDER = ("chrf", "comet", "cometkiwi", "bleu", "chrf++", "ter")

Speeds = Mapping[str, Speed]


def quality_of(header: Mapping[str, Any]) -> str:
    """The metric that a study's frontier is of, by its ledger's header."""
    return str(header.get("spec", {}).get("quality") or DEFAULT_QUALITY)


@dataclass(frozen=True, slots=True)
class Point:
    """A trial that was measured on every segment.

    metric: the study's quality. ratio: the baseline's bytes over these. interval: candidate minus baseline in quality,
    None where there is no baseline to pair with; beside: the same in the other metrics that have one. kept_off: why it
    may not stand on the frontier. on_frontier: not dominated by any other point of its split that may. tie: the
    smallest point of no more bytes that this one is not shown to be better than. speed: of the model as it ships, where
    the search got that far.
    """

    record: TrialRecord
    measurement: Measurement
    metric: str
    ratio: float
    interval: Interval | None
    on_frontier: bool
    kept_off: tuple[str, ...] = ()
    tie: TrialRecord | None = None
    beside: Mapping[str, Interval] = field(default_factory=dict)
    speed: Speed | None = None

    @property
    def speeds(self) -> dict[str, float]:
        """Its speed's numbers by name; empty where there are none."""
        return {} if self.speed is None else self.speed.figures()

    @property
    def steps(self) -> str:
        return self.record.candidate.describe()

    @property
    def label(self) -> str:
        return self.steps or "baseline"

    @property
    def bytes(self) -> int:
        return self.measurement.footprint.bytes

    @property
    def quality(self) -> float:
        return self.measurement.overall(self.metric)

    @property
    def tied(self) -> bool:
        """Whether it is on the frontier without being shown to be better than all that is no larger."""
        return self.on_frontier and self.tie is not None


@dataclass(frozen=True, slots=True)
class Dropped:
    """A trial that a race ended early. of: the segments of the whole data set. ratio: as a point's."""

    record: TrialRecord
    measurement: Measurement
    race: Race
    of: int
    ratio: float

    @property
    def bytes(self) -> int:
        return self.measurement.footprint.bytes

    @property
    def why(self) -> str:
        return race_text(self.race, self.of)


@dataclass(frozen=True, slots=True)
class Results:
    """points: the trials measured in full, by trial number. failures, dropped: the others, with their reasons.

    metric: the quality.
    """

    points: tuple[Point, ...]
    failures: tuple[tuple[TrialRecord, Failure], ...]
    dropped: tuple[Dropped, ...] = ()
    metric: str = DEFAULT_QUALITY

    @property
    def frontier(self) -> list[Point]:
        """The points on the frontier, from the largest to the smallest."""
        return sorted((point for point in self.points if point.on_frontier), key=lambda point: -point.bytes)

    @property
    def baseline(self) -> Point | None:
        return next((point for point in self.points if not point.record.candidate.steps), None)

    @property
    def kept_off(self) -> list[Point]:
        """The points that may not stand on the frontier, by trial number."""
        return [point for point in self.points if point.kept_off]

    @property
    def metrics(self) -> list[str]:
        """Every metric that a point has, the quality first."""
        names = {name for point in self.points for name in point.measurement.scores}
        order = [self.metric, *METRIC_ORDER]
        return sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))


def collect(
    records: Sequence[TrialRecord], intervals: Intervals, speeds: Speeds | None = None, floor: float = 0.0
) -> Results:
    """The results of one split's trials, each paired with the baseline by their stored hypotheses.

    speeds: candidate's digest -> the speed it has as it ships, or why that was not measured. floor: the share of the
    baseline's quality that a point of the frontier must have.
    """
    ended = [(record, record.outcome) for record in records if isinstance(record.outcome, Measurement)]
    measured = [(record, outcome) for record, outcome in ended if outcome.race is None]
    baseline = next(((record, outcome) for record, outcome in measured if not record.candidate.steps), None)
    points = [_point(record, outcome, baseline, intervals, speeds or {}, floor) for record, outcome in measured]
    whole, usual = len(intervals.segments), baseline[1] if baseline else None
    dropped = [
        Dropped(record, outcome, outcome.race, whole, _ratio(outcome, usual))
        for record, outcome in ended
        if outcome.race
    ]
    failures = [(record, record.outcome) for record in records if isinstance(record.outcome, Failure)]
    return Results(tuple(_with_standing(points, intervals)), tuple(failures), tuple(dropped), intervals.metric)


def judged(dev: Results, test: Results | None) -> Results:
    """The dev results with each point's tie as the held-out data has it, where the point was measured there."""
    on_test = {point.record.candidate.digest: point for point in test.points} if test else {}
    on_dev = {point.record.candidate.digest: point.record for point in dev.points}

    def tie(point: Point) -> TrialRecord | None:
        there = on_test.get(point.record.candidate.digest)
        if there is None or there.kept_off:
            return point.tie
        return on_dev.get(there.tie.candidate.digest, there.tie) if there.tie else None

    return replace(dev, points=tuple(replace(point, tie=tie(point)) for point in dev.points))


def _point(
    record: TrialRecord,
    outcome: Measurement,
    baseline: tuple[TrialRecord, Measurement] | None,
    intervals: Intervals,
    speeds: Speeds,
    floor: float,
) -> Point:
    """The point, without its standing among the others."""
    usual = baseline[1] if baseline else None
    return Point(
        record,
        outcome,
        intervals.metric,
        _ratio(outcome, usual),
        intervals.between(record, baseline[0]) if baseline else None,
        on_frontier=False,
        kept_off=kept_off(outcome, usual, intervals.metric, floor),
        beside=_beside(record, baseline[0], intervals) if baseline else {},
        speed=speeds.get(record.candidate.digest),
    )


def _beside(record: TrialRecord, baseline: TrialRecord, intervals: Intervals) -> Mapping[str, Interval]:
    """The interval in the metric that could have been the quality, where both were measured in it."""
    return {
        metric: intervals.between(record, baseline, metric)
        for metric in QUALITIES
        if metric != intervals.metric
        and all(trial.measurement and metric in trial.measurement.scores for trial in (record, baseline))
        and intervals.can_compare(record, baseline, metric)
    }


def _with_standing(points: Sequence[Point], intervals: Intervals) -> list[Point]:
    """The points with `on_frontier` and `tie`, among those that may stand on the frontier."""
    allowed = [point for point in points if not point.kept_off]
    kept = on_frontier([Loss(point.quality, point.bytes) for point in allowed])
    standing = {
        point.record.key: replace(point, on_frontier=keep, tie=_tie(point, allowed, intervals))
        for point, keep in zip(allowed, kept, strict=True)
    }
    return [standing.get(point.record.key, point) for point in points]


def _tie(point: Point, others: Sequence[Point], intervals: Intervals) -> TrialRecord | None:
    """The smallest of the others, of no more bytes, whose paired interval of point minus it is not all above 0."""
    unbeaten = [
        other
        for other in others
        if other is not point
        and other.bytes <= point.bytes
        and intervals.between(point.record, other.record).low <= 0.0
    ]
    smallest = min(unbeaten, key=lambda other: (other.bytes, other.record.number), default=None)
    return smallest.record if smallest else None


def _ratio(outcome: Measurement, baseline: Measurement | None) -> float:
    return baseline.footprint.bytes / outcome.footprint.bytes if baseline else float("nan")
