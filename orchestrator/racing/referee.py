"""Whom a raced trial runs against, and what its race says: kept beside the ledger, and rebuilt from it on resume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.racing.judging import Comparator, comparators_for, floor_under, judge
from search_spaces.outcome import Measurement, Race
from workers.plan.evaluation_plan import RACED_SPLIT
from workers.reading.segments import Segment
from workers.scoring.sanity import over_limits


class Referee:
    """Judges the trials of one split by those that were measured whole.

    segments: the split's, all of them. quality: the metric that is raced in. floor: the share of the baseline's quality
    below which a candidate is of no use; 0 asks for nothing. A trial runs against the same points, and the floor, at
    every look of one attempt: those that were known at its first. by_floor_alone: for a study with a third objective,
    which no race knows: no point beats a candidate that may be faster.
    """

    def __init__(
        self,
        segments: Sequence[Segment],
        quality: str,
        floor: float = 0.0,
        split: str = RACED_SPLIT,
        by_floor_alone: bool = False,
    ) -> None:
        self.split = split
        self._segments = tuple(segments)
        self._ids = [segment.id for segment in segments]
        self._quality = quality
        self._share = floor
        self._by_floor_alone = by_floor_alone
        self._floor: list[Comparator] = []
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
        if is_baseline:
            self._floor = floor_under(point, self._share)

    def begin(self, number: int) -> None:
        """A trial begins, or begins anew: its race does too."""
        self._fields.pop(number, None)

    def judge(self, number: int, positions: Sequence[int], scores: Sequence[float], bytes: int) -> Race | None:
        """Why the trial is to be stopped, or None when it goes on.

        positions: of the segments translated so far, in the race's order. scores: the quality of each. bytes: what the
        candidate takes on disk.
        """
        if number not in self._fields:
            points = [] if self._by_floor_alone else self._sane()
            self._fields[number] = comparators_for(bytes, [*points, *self._floor])
        verdict = judge(self._segments, positions, scores, self._fields[number])
        if verdict.kind == "go on" or verdict.by is None:
            return None
        floor = self._share if verdict.kind == "below the floor" else 0.0
        return Race(
            verdict=verdict.kind,
            by=verdict.by,
            segments=len(positions),
            low=verdict.low,
            high=verdict.high,
            projected=verdict.projected,
            floor=floor,
        )

    def _sane(self) -> list[Comparator]:
        """The points within their sanity limits; none before the baseline says what is normal."""
        if self._baseline is None:
            return []
        return [point for point, shares in self._measured.values() if not over_limits(shares, self._baseline)]
