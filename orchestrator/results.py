"""What a study found, worked out from its ledger alone: each point with its interval, and the frontier."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.frontier import Loss, on_frontier
from orchestrator.ledger import Key, TrialRecord, read_hypotheses
from search_spaces.outcome import Failure, Measurement
from workers.reading.segments import DataSet
from workers.scoring import Interval, Statistics, corpus_statistics, paired_interval

QUALITY = "chrf"
CSV_COLUMNS = (
    "trial", "steps", "bytes", "ratio", "chrf", "bleu", "worst_pair", "chrf_low", "chrf_high", "on_frontier",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Point:
    """A trial that ended well.

    ratio: the baseline's bytes over these. interval: candidate minus baseline in chrF, None where there is no
    baseline to pair with. on_frontier: not dominated by any other point of its split.
    """

    record: TrialRecord
    measurement: Measurement
    ratio: float
    interval: Interval | None
    on_frontier: bool

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
        return self.measurement.overall(QUALITY)


@dataclass(frozen=True, slots=True)
class Results:
    """points: the trials that ended well, by trial number. failures: the others, with their reasons."""

    points: tuple[Point, ...]
    failures: tuple[tuple[TrialRecord, Failure], ...]

    @property
    def frontier(self) -> list[Point]:
        """The points on the frontier, from the largest to the smallest."""
        return sorted((point for point in self.points if point.on_frontier), key=lambda point: -point.bytes)

    @property
    def baseline(self) -> Point | None:
        return next((point for point in self.points if not point.record.candidate.steps), None)


def collect(records: Sequence[TrialRecord], intervals: Intervals) -> Results:
    """The results of one split's trials, each paired with the baseline by their stored hypotheses."""
    measured = [(record, record.outcome) for record in records if isinstance(record.outcome, Measurement)]
    failures = [(record, record.outcome) for record in records if isinstance(record.outcome, Failure)]
    baseline = next(((record, outcome) for record, outcome in measured if not record.candidate.steps), None)
    losses = [Loss(outcome.overall(QUALITY), outcome.footprint.bytes) for _, outcome in measured]
    points = [
        Point(
            record,
            outcome,
            baseline[1].footprint.bytes / outcome.footprint.bytes if baseline else float("nan"),
            intervals.between(record, baseline[0]) if baseline else None,
            kept,
        )
        for (record, outcome), kept in zip(measured, on_frontier(losses), strict=True)
    ]
    return Results(tuple(points), tuple(failures))


def frontier_csv(points: Sequence[Point]) -> str:
    """`frontier.csv`: a row a trial that ended well, by trial number."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_row(point) for point in points)
    return text.getvalue()


def _row(point: Point) -> Mapping[str, object]:
    interval = point.interval
    return {
        "trial": point.record.number,
        "steps": point.steps,
        "bytes": point.bytes,
        "ratio": "" if interval is None else f"{point.ratio:.6f}",
        "chrf": f"{point.quality:.6f}",
        "bleu": f"{point.measurement.overall('bleu'):.6f}",
        "worst_pair": f"{point.measurement.worst_pair(QUALITY)[1]:.6f}",
        "chrf_low": "" if interval is None else f"{interval.low:.6f}",
        "chrf_high": "" if interval is None else f"{interval.high:.6f}",
        "on_frontier": int(point.on_frontier),
    }


class Intervals:
    """The paired intervals of one run's trials, each worked out once from the stored hypotheses."""

    def __init__(self, folder: Path, dataset: DataSet, seed: int) -> None:
        self._folder = folder
        self._dataset = dataset
        self._seed = seed
        self._statistics: dict[Key, Statistics] = {}
        self._intervals: dict[tuple[Key, Key], Interval] = {}

    def between(self, record: TrialRecord, baseline: TrialRecord) -> Interval:
        """The 95 % interval of record minus baseline in chrF, mean over pairs."""
        keys = record.key, baseline.key
        if keys not in self._intervals:
            self._intervals[keys] = paired_interval(
                QUALITY, self._dataset.segments, self._of(record), self._of(baseline), self._seed
            )
        return self._intervals[keys]

    def _of(self, record: TrialRecord) -> Statistics:
        if record.key not in self._statistics:
            hypotheses = read_hypotheses(self._folder, record)
            self._statistics[record.key] = corpus_statistics(QUALITY, self._dataset.segments, hypotheses)
        return self._statistics[record.key]
