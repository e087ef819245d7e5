"""Whom a raced trial runs against, and what its race says: kept beside the ledger, and rebuilt from it on resume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.racing import Comparator, comparators_for, judge
from search_spaces.outcome import Measurement, Race
from workers.plan import RACED_SPLIT
from workers.reading.segments import Segment
from workers.sanity import over_limits


class Referee:
    """Judges the trials of one split by those that were measured whole.

    segments: the split's, all of them. quality: the metric that is raced in. A trial runs against the same points at
    every look of one attempt: those that were known at its first.
    """

    def __init__(self, segments: Sequence[Segment], quality: str, split: str = RACED_SPLIT) -> None:
        self.split = split
        self._segments = tuple(segments)
        self._ids = [segment.id for segment in segments]
        self._quality = quality
        self._measured: dict[int, tuple[Comparator, Mapping[str, float]]] = {}
        self._baseline: Mapping[str, float] | None = None
        self._fields: dict[int, list[Comparator]] = {}

    def learn(
        self, number: int, is_baseline: bool, measurement: Measurement, lines: Sequence[Mapping[str, Any]]
    ) -> None:
        """Take in a trial and its hypotheses' lines; one that a race ended, or whose lines carry no segment scores (an
        older ledger's), is nobody's comparator."""
        if is_baseline:
            self._baseline = measurement.sanity
        whole = measurement.race is None and [line["id"] for line in lines] == self._ids
        if not whole or self._quality not in measurement.scores:
            return
        if not all(self._quality in line.get("scores", {}) for line in lines):
            return
        scores = np.asarray([line["scores"][self._quality] for line in lines], dtype=np.float64)
        point = Comparator(number, measurement.footprint.bytes, measurement.overall(self._quality), scores)
        self._measured[number] = point, measurement.sanity

    def begin(self, number: int) -> None:
        """A trial begins, or begins anew: its race does too."""
        self._fields.pop(number, None)

    def judge(self, number: int, positions: Sequence[int], scores: Sequence[float], bytes: int) -> Race | None:
        """Why the trial is to be stopped, or None when it goes on.

        positions: of the segments translated so far, in the race's order. scores: the quality of each. bytes: what the
        candidate takes on disk.
        """
        if number not in self._fields:
            self._fields[number] = comparators_for(bytes, self._sane())
        field = self._fields[number]
        verdict = judge(self._segments, positions, scores, field)
        if verdict.kind == "go on" or verdict.by is None:
            return None
        quality = next(point.quality for point in field if point.number == verdict.by)
        projected = quality + verdict.difference
        return Race(verdict.kind, verdict.by, len(positions), verdict.low, verdict.high, projected)

    def _sane(self) -> list[Comparator]:
        """The points that may stand on the frontier; none before the baseline says what is normal."""
        if self._baseline is None:
            return []
        return [point for point, shares in self._measured.values() if not over_limits(shares, self._baseline)]
