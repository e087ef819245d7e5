"""Which points a bootstrap tells apart, and how much each may have lost: of all comparisons together, error 5 %.

Points are resampled alike, so the samples of a difference are those of two points subtracted. The comparisons of a
study are made together: the largest of all studentized differences decides how far apart two must be, so that the
chance of even one false statement is 5 % (Romano and Wolf 2005, https://doi.org/10.1111/j.1468-0262.2005.00615.x).
Where documents are few the bootstrap's spread is too small and its tail too short: the spread counts n / (n - strata),
and the tail is Student's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]
Matrix = np.ndarray[Any, np.dtype[np.bool_]]

ALPHA = 0.05
# With fewer documents no point is told from another: a t of 9 degrees of freedom still holds 5 % where the differences
# of documents are as skewed as those of compressed models are, one of 5 does not.
LEAST_DOCUMENTS = 10
# With fewer no loss is ruled out: what few documents show may lack the rare ones that go badly wrong. In samples of 12,
# 24 and 50 documents of a recorded search a plain interval errs in up to 11, 9 and 8 % instead of 5.
LEAST_FOR_LOSS = 50
# The chance that as much data as is said to be needed would do, if the loss is what was seen.
POWER = 0.8
# Differences below this are rounding.
TINY = 1e-9
MOST_SEGMENTS = 10_000_000


@dataclass(frozen=True, slots=True)
class Spread:
    """What a split's documents allow to be said. documents: that are drawn. strata: the groups they are drawn within.
    segments: of the whole split."""

    documents: int
    strata: int
    segments: int

    @property
    def freedom(self) -> int:
        """Degrees of freedom of a spread that was worked out from these documents."""
        return self.documents - self.strata

    @property
    def correction(self) -> float:
        """By which the bootstrap's standard deviation is to be multiplied."""
        return math.sqrt(self.documents / self.freedom)


@dataclass(frozen=True, slots=True)
class LossBound:
    """How much quality a candidate may have lost against the baseline."""

    difference: float
    """Candidate minus baseline, as measured."""
    at_most: float
    """The most that it lost, at an error of 5 % over all candidates together; below 0 where it gained."""
    deviation: float
    """Standard deviation of the difference."""
    critical: float
    """How many deviations lie between the difference and the bound."""
    unseen: float
    """The loss of one segment more that fails (see `loss_bounds`)."""
    segments: int
    """How many segments the data has."""

    def segments_needed(self, margin: float) -> int | None:
        """About how many segments of such data would show a loss below the margin, with a chance of 80 %, if the loss
        is what was seen; None where what was seen is not below it. To two digits."""
        room, tries = margin + self.difference, float(self.segments)
        wanted = self.critical + NormalDist().inv_cdf(POWER)
        while tries < MOST_SEGMENTS:
            more = self.segments / tries
            deviation = math.hypot(self.deviation * math.sqrt(more), self.unseen * more)
            if wanted * deviation + self.unseen * more < room:
                tens: int = 10 ** max(math.ceil(math.log10(tries)) - 2, 0)
                return max(math.ceil(tries / tens) * tens, self.segments)
            tries *= 1.02
        return None


def shown_better(qualities: Sequence[float], samples: Array, spread: Spread, alpha: float = ALPHA) -> Matrix:
    """For each pair of points whether the first is shown to be better than the second: shape (points, points).

    qualities: as measured, better when higher. samples: each point's quality in each bootstrap sample, all drawn alike;
    shape (points, samples). The chance that any of all statements is false is alpha. They hold together, so what
    follows from them is among them: the relation is transitive, and never holds both ways. A sample can't show what
    happens to one segment in many, so who is to be shown better is charged with one segment more than was seen, that
    loses half of the quality. Nothing is shown of fewer than `LEAST_DOCUMENTS` documents.
    """
    count = len(qualities)
    better: Matrix = np.zeros((count, count), dtype=np.bool_)
    if count < 2 or spread.documents < LEAST_DOCUMENTS or spread.freedom < 1:
        return better
    measured = np.asarray(qualities, dtype=np.float64)
    difference = np.subtract.outer(measured, measured)
    unseen = float(np.abs(measured).max()) / 2 / spread.segments
    plain = np.stack([(one - samples).std(axis=1) for one in samples]) * spread.correction
    deviation = np.maximum(np.hypot(plain, unseen), TINY)
    size = (difference - unseen) / deviation
    while True:
        most = _largest(samples, difference, deviation, ~better)
        found = size > student(float(np.quantile(most, 1 - alpha)), spread.freedom)
        if not (found & ~better).any():
            return _closed(better)
        better |= found


def loss_bounds(
    qualities: Sequence[float],
    samples: Array,
    baseline: float,
    baseline_samples: Array,
    spread: Spread,
    alpha: float = ALPHA,
) -> list[LossBound | None]:
    """How much each candidate may have lost against the baseline, all of them together at an error of alpha.

    samples: shape (candidates, samples). One-sided: nothing is said of how much may have been won. Each candidate is
    charged with one segment more than was seen, that loses half of the baseline's quality: outputs that are all alike
    on n segments may still have lost 1.3 / n of it. None for each below `LEAST_FOR_LOSS` documents.
    """
    if not len(qualities) or spread.documents < LEAST_FOR_LOSS or spread.freedom < 1:
        return [None] * len(qualities)
    unseen = abs(baseline) / 2 / spread.segments
    differences = samples - baseline_samples
    measured = np.asarray(qualities, dtype=np.float64) - baseline
    plain = differences.std(axis=1) * spread.correction
    deviation = np.maximum(np.hypot(plain, unseen), TINY)
    centred = (differences - measured[:, None]) / deviation[:, None]
    critical = student(float(np.quantile(centred.max(axis=0), 1 - alpha)), spread.freedom)
    # One candidate alone has at least Student's own tail, however its samples fell.
    critical = max(critical, student(NormalDist().inv_cdf(1 - alpha), spread.freedom))
    return [
        LossBound(
            difference=float(one),
            at_most=float(-(one - unseen - critical * wide)),
            deviation=float(own),
            critical=critical,
            unseen=unseen,
            segments=spread.segments,
        )
        for one, own, wide in zip(measured, plain, deviation, strict=True)
    ]


def student(normal: float, freedom: int) -> float:
    """The quantile of Student's t with so many degrees of freedom where the normal distribution's is this.

    Abramowitz and Stegun 1964, 26.7.5; within 1 % down to 9 degrees of freedom and up to quantiles of 4.
    """
    z = max(normal, 0.0)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return float(sum(term / freedom**power for power, term in enumerate(terms)))


def _largest(samples: Array, difference: Array, deviation: Array, wanted: Matrix) -> Array:
    """In each sample the largest studentized difference from what was measured, among the wanted pairs."""
    most = np.zeros(samples.shape[1])
    for one, row in enumerate(samples):
        others = np.flatnonzero(wanted[one])
        if len(others):
            away = (row - samples[others] - difference[one, others, None]) / deviation[one, others, None]
            np.maximum(most, away.max(axis=0), out=most)
    return most


def _closed(better: Matrix) -> Matrix:
    """With all that follows: who is better than one that is better than another is better than that one too."""
    closed = better.copy()
    for through in range(len(closed)):
        closed |= np.logical_and.outer(closed[:, through], closed[through])
    return closed
