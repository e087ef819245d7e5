"""What a reader asks first: how small a model gets at no loss, at 99, 98 and 95 % of the quality, and which is fastest.

Answers are of the held-out data, or of dev where the baseline has no score on any. They take qualities as measured; the
interval says how sure that is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orchestrator.results.points import Point, Results
from orchestrator.results.statement import on_dev
from workers.scoring.metrics import Interval

SHARES = (0.99, 0.98, 0.95)
# The share of the baseline's quality that the fastest model keeps.
FAST_AT = 0.99


@dataclass(frozen=True, slots=True)
class Kept:
    """A compressed point and the share of the baseline's quality that it keeps. number: its trial's on dev, which
    names it everywhere. pair: the language pair that is meant; empty for the mean over pairs."""

    point: Point
    number: int
    share: float
    interval: Interval | None
    """95 %, of the share."""
    pair: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """asked: the share that is to be kept; None where neither dev nor the data that judge may show a loss. found: the
    smallest that does. nearest: the one that keeps most, where none does."""

    asked: float | None
    found: Kept | None
    nearest: Kept | None


@dataclass(frozen=True, slots=True)
class Fastest:
    """kept: None for the baseline itself. batch: segments at a time. tokens_s: generated tokens a second. baseline:
    the baseline's; None where it was not timed."""

    kept: Kept | None
    batch: int
    tokens_s: float
    baseline: float | None


def judged_by(dev: Results, test: Results | None) -> Results:
    """The results that answers are of."""
    return test if test is not None and test.baseline is not None else dev


def on_the_mean(dev: Results, test: Results | None) -> list[Answer]:
    """The answers of the mean over language pairs: no loss shown, then `SHARES`. Empty where there is no baseline, or
    nothing that may stand beside it."""
    return _answers(dev, judged_by(dev, test), kept_on_mean, _loss_on_mean)


def on_the_worst_pair(dev: Results, test: Results | None) -> list[Answer]:
    """The same of the pair that keeps least; empty also where there is one pair only."""
    results = judged_by(dev, test)
    if results.baseline is None or len(results.baseline.measurement.scores[results.metric]) < 2:
        return []
    return _answers(dev, results, kept_on_worst_pair, _loss_on_a_pair)


def fastest(dev: Results, test: Results | None) -> Fastest | None:
    """The fastest model that keeps `FAST_AT` on the mean, the baseline among them; None where none was timed."""
    kept = {one.number: one for one in candidates(dev, judged_by(dev, test), kept_on_mean) if one.share >= FAST_AT}
    speeds = {point.record.number: point.speed.tokens_s for point in dev.points if point.speed}
    timed = {number: found for number, found in speeds.items() if found}
    usual = {} if dev.baseline is None else timed.get(dev.baseline.record.number, {})
    allowed = {number: found for number, found in timed.items() if number in kept or found is usual}
    if not allowed:
        return None
    shared = set.intersection(*(set(found) for found in allowed.values()))
    if not shared:
        return None
    batch = max(shared)
    best = max(allowed, key=lambda number: allowed[number][batch])
    return Fastest(kept.get(best), batch, allowed[best][batch], usual.get(batch))


def kept_on_mean(point: Point, baseline: Point, number: int) -> Kept:
    """What the point keeps of the mean over language pairs."""
    return Kept(point, number, point.quality / baseline.quality, interval_of_share(point.interval, baseline.quality))


def kept_on_worst_pair(point: Point, baseline: Point, number: int) -> Kept:
    """What the point keeps of the pair of which it keeps least."""
    ours, whole = (one.measurement.scores[one.metric] for one in (point, baseline))
    shares = {pair: _share(ours[pair].value, whole[pair].value) for pair in sorted(whole) if pair in ours}
    pair = min(shares, key=lambda name: shares[name])
    return Kept(point, number, shares[pair], interval_of_share(point.by_pair.get(pair), whole[pair].value), pair)


def _answers(
    dev: Results,
    results: Results,
    kept: Callable[[Point, Point, int], Kept],
    loses: Callable[[Point], bool],
) -> list[Answer]:
    allowed = candidates(dev, results, kept)
    if not allowed:
        return []
    nearest = max(allowed, key=lambda one: (one.share, -one.point.bytes))
    on_dev_too = {point.record.candidate.digest: point for point in dev.points}

    def shown_to_lose(one: Kept) -> bool:
        chosen = on_dev_too.get(one.point.record.candidate.digest)
        return loses(one.point) or (chosen is not None and loses(chosen))

    def answer(asked: float | None, those: Sequence[Kept]) -> Answer:
        found = min(those, key=lambda one: (one.point.bytes, one.number), default=None)
        return Answer(asked, found, nearest if found is None else None)

    return [
        answer(None, [one for one in allowed if not shown_to_lose(one)]),
        *(answer(asked, [one for one in allowed if one.share >= asked]) for asked in SHARES),
    ]


def candidates(dev: Results, results: Results, kept: Callable[[Point, Point, int], Kept]) -> list[Kept]:
    """The compressed points that may stand, on dev and on the data that judge."""
    baseline = results.baseline
    if baseline is None or baseline.quality <= 0:
        return []
    barred = {point.record.candidate.digest for point in dev.kept_off}
    allowed = (point for point in results.points if point.steps and not point.kept_off)
    return [
        kept(point, baseline, on_dev(point.record, dev).number)
        for point in allowed
        if point.record.candidate.digest not in barred
    ]


def _loss_on_mean(point: Point) -> bool:
    """Whether the interval of the difference lies below 0."""
    return point.interval is not None and point.interval.high < 0


def _loss_on_a_pair(point: Point) -> bool:
    return any(interval.high < 0 for interval in point.by_pair.values())


def _share(value: float, whole: float) -> float:
    return value / whole if whole > 0 else math.inf


def interval_of_share(difference: Interval | None, whole: float) -> Interval | None:
    """The interval of a share of a quality, of the difference's from the whole of it."""
    if difference is None or whole <= 0:
        return None
    return Interval((whole + difference.low) / whole, (whole + difference.high) / whole)
