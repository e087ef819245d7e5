"""What a study found, from its ledger alone: each point, its interval, the frontier, and what is not told from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from orchestrator.ledger.lines import StudyHeader
from orchestrator.ledger.records import Key, TrialRecord
from orchestrator.results.intervals import Intervals
from orchestrator.results.limits import NO_LIMITS, Limits, Third
from orchestrator.results.standing import kept_off, race_text
from orchestrator.statistics.frontier import COST_APART, Objectives, on_frontier, standings
from orchestrator.statistics.telling_apart import LossBound, Spread, loss_bounds, shown_better
from search_spaces.outcome import Failure, Measurement, Race, Speed
from workers.scoring.metrics import Interval

DEFAULT_QUALITY = "chrf"
# What a study's quality can be; where both are measured, each has its interval.
QUALITIES = ("chrf", "comet")
# How many points that are not told apart from a smaller one are scored on held-out data, timed and kept, beside those
# that no other has beaten as measured.
HANDFUL = 5
METRIC_ORDER = ("chrf", "comet", "cometkiwi", "bleu", "chrf++", "ter")

Speeds = Mapping[str, Speed]


def quality_of(header: StudyHeader) -> str:
    """The metric that a study's frontier is of, by its ledger's header."""
    return str(header.get("spec", {}).get("quality") or DEFAULT_QUALITY)


@dataclass(frozen=True, slots=True)
class Point:
    """A trial that was measured on every segment."""

    record: TrialRecord
    """The trial's line of the ledger."""
    measurement: Measurement
    """What it measured."""
    metric: str
    """The study's quality."""
    ratio: float
    """The baseline's bytes over this point's."""
    interval: Interval | None
    """Candidate minus baseline in quality; None where there is no baseline to pair with."""
    on_frontier: bool
    """Whether it is on the frontier (see `standings`); False for a point that is kept off it."""
    kept_off: tuple[str, ...] = ()
    """Why it may not stand on the frontier."""
    tie: TrialRecord | None = None
    """The point of the frontier that it is not told apart from (see `standings`); None for a point that is kept off."""
    beside: Mapping[str, Interval] = field(default_factory=dict)
    """Metric -> the same interval in the other metrics that have one."""
    speed: Speed | None = None
    """Speed of the model as it ships, where the search got that far."""
    beaten_by: TrialRecord | None = None
    """The point that beats it (see `standings`); None for a point that is kept off."""
    loss: LossBound | None = None
    """How much quality it may have lost, of all candidates together; None where documents are too few."""
    held_out: Point | None = None
    """The same candidate on held-out data."""
    by_pair: Mapping[str, Interval] = field(default_factory=dict)
    """Language pair -> candidate minus baseline in quality; empty where there is no baseline to pair with."""
    cost: float = 0.0
    """What it costs in the study's third objective (see `Limits.cost`)."""

    @property
    def speeds(self) -> dict[str, float]:
        """Its speed's numbers by name; empty where there are none."""
        return {} if self.speed is None else self.speed.figures()

    @property
    def is_reference(self) -> bool:
        """Whether the study names it as a mark to judge others by."""
        return self.record.reference

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
    def objectives(self) -> Objectives:
        return Objectives(self.quality, self.bytes, self.cost)


@dataclass(frozen=True, slots=True)
class Dropped:
    """A trial that a race ended early."""

    record: TrialRecord
    """The trial's line of the ledger."""
    measurement: Measurement
    """What it measured until then."""
    race: Race
    """How the race ended."""
    of: int
    """How many segments the whole data set has."""
    ratio: float
    """The baseline's bytes over this trial's."""

    @property
    def bytes(self) -> int:
        return self.measurement.footprint.bytes

    @property
    def why(self) -> str:
        return race_text(self.race, self.of)


@dataclass(frozen=True, slots=True)
class Results:
    """What a study found on one split."""

    points: tuple[Point, ...]
    """The trials measured in full, by trial number."""
    failures: tuple[tuple[TrialRecord, Failure], ...]
    """The trials that failed, with the reason."""
    dropped: tuple[Dropped, ...] = ()
    """The trials that a race ended early, with the reason."""
    metric: str = DEFAULT_QUALITY
    """The quality metric."""
    spread: Spread | None = None
    """What the split's documents allow to be said."""
    third: Third | None = None
    """The study's objective beside quality and bytes."""

    @property
    def line(self) -> list[Point]:
        """The frontier's points that a line of quality over bytes joins, from the smallest: all but those that stand
        for what they cost alone."""
        found: list[Point] = []
        for point in reversed(self.frontier):
            if not any(one.quality >= point.quality and one.cost > point.cost for one in found):
                found.append(point)
        return found

    @property
    def frontier(self) -> list[Point]:
        """The points on the frontier, from the largest to the smallest."""
        return sorted((point for point in self.points if point.on_frontier), key=lambda point: -point.bytes)

    @property
    def ties(self) -> list[Point]:
        """The points that are not told apart from one of the frontier, those worth most first: first those that
        held-out data have scored, then those that no other point has beaten as measured, then those that only such
        points have, and so on; of these the smaller ones."""
        layers = self._layers
        return sorted(
            (point for point in self.points if point.tie is not None),
            key=lambda point: (
                point.held_out is None,
                layers[point.record.key],
                point.bytes,
                point.record.number,
            ),
        )

    @property
    def worth_keeping(self) -> list[Point]:
        """The frontier, and of what is not told apart from it all that was scored on held-out data, all that no other
        point has beaten as measured, and a handful more. What is to be given up first stands last."""
        ties, layers = self.ties, self._layers
        sure = sum(point.held_out is not None or layers[point.record.key] == 0 for point in ties)
        return [*self.frontier, *ties[: sure + HANDFUL]]

    @property
    def shown(self) -> list[Point]:
        """What a reader chooses from: the baseline, the frontier, and what of its ties is kept, from the largest to the
        smallest."""
        points = {point.record.key: point for point in self.worth_keeping}
        if self.baseline is not None:
            points[self.baseline.record.key] = self.baseline
        return sorted(points.values(), key=lambda point: (-point.bytes, point.quality))

    @property
    def best_first(self) -> list[Point]:
        """The baseline, then the frontier from its largest point, then what is not told apart from it, then what is
        beaten, then what is kept off, each of these by quality."""

        def order(point: Point) -> tuple[float, ...]:
            place = 4 if point.kept_off else 1 if point.on_frontier else 2 if point.tie else 3
            place = place if point.steps else 0
            first = -point.bytes if place == 1 else -point.quality
            return (place, first, point.bytes, point.record.number)

        return sorted(self.points, key=order)

    @property
    def _layers(self) -> dict[Key, int]:
        """For each point that may stand how many frontiers are to be taken away before it is on one, qualities taken at
        their word."""
        left = [point for point in self.points if not point.kept_off]
        found: dict[Key, int] = {}
        layer = 0
        while left:
            kept = on_frontier([point.objectives for point in left])
            found |= {point.record.key: layer for point, keep in zip(left, kept, strict=True) if keep}
            left = [point for point, keep in zip(left, kept, strict=True) if not keep]
            layer += 1
        return found

    @property
    def baseline(self) -> Point | None:
        return next((point for point in self.points if not point.record.candidate.steps), None)

    @property
    def references(self) -> list[Point]:
        """The marks that the study names, from the largest to the smallest."""
        return sorted((point for point in self.points if point.is_reference), key=lambda point: -point.bytes)

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
    records: Sequence[TrialRecord],
    intervals: Intervals,
    speeds: Speeds | None = None,
    floor: float = 0.0,
    limits: Limits = NO_LIMITS,
) -> Results:
    """The results of one split's trials, each paired with the baseline by their stored hypotheses.

    speeds: candidate's digest -> the speed it has as it ships, or why that was not measured. floor: the share of the
    baseline's quality that a point of the frontier must have. limits: what it must do as it ships, and whether that is
    an objective.
    """
    ended = [(record, record.outcome) for record in records if isinstance(record.outcome, Measurement)]
    measured = [(record, outcome) for record, outcome in ended if outcome.race is None]
    baseline = next(((record, outcome) for record, outcome in measured if not record.candidate.steps), None)
    points = [
        _point(record, outcome, baseline=baseline, intervals=intervals, speeds=speeds or {}, floor=floor, limits=limits)
        for record, outcome in measured
    ]
    whole, usual = len(intervals.segments), baseline[1] if baseline else None
    dropped = [
        Dropped(record, outcome, outcome.race, whole, _ratio(outcome, usual))
        for record, outcome in ended
        if outcome.race
    ]
    failures = [(record, record.outcome) for record in records if isinstance(record.outcome, Failure)]
    spread = intervals.spread
    standing = _with_standing(points, intervals, spread)
    return Results(tuple(standing), tuple(failures), tuple(dropped), intervals.metric, spread, limits.third)


def scored_alone(
    records: Sequence[TrialRecord],
    metric: str,
    floor: float = 0.0,
    speeds: Speeds | None = None,
    limits: Limits = NO_LIMITS,
) -> Results:
    """The results of one split's trials without interval, standing or bound, which take no data and no bootstrap: all
    that `picking.picked` looks at. speeds, floor, limits: as in `collect`."""
    ended = [(record, record.outcome) for record in records if isinstance(record.outcome, Measurement)]
    measured = [(record, outcome) for record, outcome in ended if outcome.race is None]
    usual = next((outcome for record, outcome in measured if not record.candidate.steps), None)
    points = tuple(
        Point(
            record,
            outcome,
            metric,
            _ratio(outcome, usual),
            interval=None,
            on_frontier=False,
            kept_off=_kept_off(record, outcome, usual, metric, floor=floor, speeds=speeds or {}, limits=limits),
            speed=(speeds or {}).get(record.candidate.digest),
            cost=limits.cost((speeds or {}).get(record.candidate.digest)),
        )
        for record, outcome in measured
    )
    dropped = tuple(
        Dropped(record, outcome, outcome.race, outcome.race.segments, _ratio(outcome, usual))
        for record, outcome in ended
        if outcome.race
    )
    failures = tuple((record, record.outcome) for record in records if isinstance(record.outcome, Failure))
    return Results(points, failures, dropped, metric, third=limits.third)


def judge_on_test(dev: Results, test: Results | None) -> Results:
    """The dev results with each point's standing as the held-out data have it, where the point was measured there.

    A point that failed there, or is kept off there, is kept off. One that was not measured there stands as on dev; if
    it is not told apart from others, it belongs to the frontier that the held-out data left.
    """
    if test is None:
        return dev
    there = {point.record.candidate.digest: point for point in test.points}
    failed = {record.candidate.digest: failure for record, failure in test.failures}
    on_dev = {point.record.candidate.digest: point.record for point in dev.points}

    def known(record: TrialRecord | None) -> TrialRecord | None:
        return record and on_dev.get(record.candidate.digest, record)

    def stands(point: Point) -> Point:
        digest = point.record.candidate.digest
        found = there.get(digest)
        reasons: tuple[str, ...] = () if found is None else found.kept_off
        if digest in failed:
            reasons = (f"failed, {failed[digest].reason.replace('_', ' ')}",)
        if reasons:
            # What it does as it ships is no matter of the data.
            there_too = (f"on held-out data: {reason}" for reason in reasons if reason not in point.kept_off)
            said = (*point.kept_off, *there_too)
            return replace(point, on_frontier=False, tie=None, beaten_by=None, kept_off=said, held_out=found)
        if found is None or point.kept_off:
            return replace(point, held_out=found)
        return replace(
            point, on_frontier=found.on_frontier, tie=known(found.tie), beaten_by=known(found.beaten_by), held_out=found
        )

    points = [stands(point) for point in dev.points]
    front = sorted((point for point in points if point.on_frontier), key=lambda point: point.bytes)

    def led(point: Point) -> Point:
        most = point.cost * COST_APART
        below = [other.record for other in front if other.bytes <= point.bytes and other.cost <= most]
        return point if point.tie is None or point.held_out or not below else replace(point, tie=below[-1])

    return replace(dev, points=tuple(led(point) for point in points))


def _point(
    record: TrialRecord,
    outcome: Measurement,
    baseline: tuple[TrialRecord, Measurement] | None,
    intervals: Intervals,
    speeds: Speeds,
    floor: float,
    limits: Limits,
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
        kept_off=_kept_off(record, outcome, usual, intervals.metric, floor=floor, speeds=speeds, limits=limits),
        beside=_beside(record, baseline[0], intervals) if baseline else {},
        speed=speeds.get(record.candidate.digest),
        by_pair=intervals.by_pair(record, baseline[0]) if baseline else {},
        cost=limits.cost(speeds.get(record.candidate.digest)),
    )


def _kept_off(
    record: TrialRecord,
    outcome: Measurement,
    baseline: Measurement | None,
    metric: str,
    floor: float,
    speeds: Speeds,
    limits: Limits,
) -> tuple[str, ...]:
    """Why it may not stand on the frontier. The baseline may, whatever it breaks: all else is compared with it."""
    reasons = kept_off(outcome, baseline, metric, floor)
    return reasons + limits.broken(speeds.get(record.candidate.digest)) if record.candidate.steps else reasons


def _beside(record: TrialRecord, baseline: TrialRecord, intervals: Intervals) -> Mapping[str, Interval]:
    """The interval in the metric that could have been the quality, where both were measured in it."""
    return {
        metric: intervals.between(record, baseline, metric)
        for metric in QUALITIES
        if metric != intervals.metric
        and all(trial.measurement and metric in trial.measurement.scores for trial in (record, baseline))
        and intervals.can_compare(record, baseline, metric)
    }


def _with_standing(points: Sequence[Point], intervals: Intervals, spread: Spread) -> list[Point]:
    """The points with their standing among those that may stand on the frontier, and what each may have lost."""
    allowed = [point for point in points if not point.kept_off]
    if not allowed:
        return list(points)
    samples = intervals.samples([point.record for point in allowed])
    better = shown_better([point.quality for point in allowed], samples, spread)
    baseline = next((at for at, point in enumerate(allowed) if not point.steps), None)
    losses: dict[int, LossBound | None] = {}
    if baseline is not None:
        compressed = [at for at in range(len(allowed)) if at != baseline]
        bounds = loss_bounds(
            [allowed[at].quality for at in compressed],
            samples[compressed],
            allowed[baseline].quality,
            samples[baseline],
            spread,
        )
        losses = dict(zip(compressed, bounds, strict=True))
    standing = {}
    for at, (place, by) in enumerate(standings([point.objectives for point in allowed], better)):
        other = None if by is None else allowed[by].record
        standing[allowed[at].record.key] = replace(
            allowed[at],
            on_frontier=place == "frontier",
            tie=other if place == "not told apart" else None,
            beaten_by=other if place == "beaten" else None,
            loss=losses.get(at),
        )
    return [standing.get(point.record.key, point) for point in points]


def _ratio(outcome: Measurement, baseline: Measurement | None) -> float:
    return baseline.footprint.bytes / outcome.footprint.bytes if baseline else float("nan")
