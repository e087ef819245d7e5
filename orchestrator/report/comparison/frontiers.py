"""Whether two frontiers agree: at each size where either has a point, what each offers of no more bytes, paired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.ledger.kept_samples import Samples
from orchestrator.number_format import Unit, metric_name, signed
from orchestrator.report.comparison.comparable import SPLITS, Study
from orchestrator.results.intervals import Intervals
from orchestrator.results.points import Point, Results
from orchestrator.statistics.simultaneous import Difference, simultaneous
from orchestrator.statistics.telling_apart import ALPHA, LEAST_DOCUMENTS, Spread
from search_spaces.wording import pluralize

# A seed may make a model a few bytes larger: sizes this close count as one.
SAME_SIZE = 0.01


@dataclass(frozen=True, slots=True)
class AtSize:
    """What two frontiers offer at one size. difference: the second's minus the first's; None where documents are too
    few."""

    bytes: int
    one: Point
    other: Point
    difference: Difference | None = None


@dataclass(frozen=True, slots=True)
class Pairing:
    """Two studies on the segments that they share."""

    split: str
    """Whose segments."""
    metric: str
    """The quality of both."""
    sizes: tuple[AtSize, ...]
    """From the largest to the smallest size."""
    unmatched: tuple[tuple[str, Point], ...]
    """(study, point) of the frontier that are smaller than all of the other's."""
    both_tried: tuple[AtSize, ...]
    """Candidates that both measured in full, the baseline included, from the largest to the smallest."""
    spread: Spread
    """What the shared documents allow to be said."""


def pair(one: Study, other: Study, split: str, ours: Intervals, theirs: Intervals) -> Pairing:
    """Compare two studies on a split whose segments they share. ours, theirs: of the same data, drawn with one seed."""
    mine, yours = one.results[split], other.results[split]
    sizes, unmatched = _at_sizes(mine, yours, (one.name, other.name))
    both = _both_tried(mine, yours)
    return Pairing(
        split=split,
        metric=mine.metric,
        sizes=_with_differences(sizes, ours, theirs),
        unmatched=tuple(unmatched),
        both_tried=_with_differences(both, ours, theirs),
        spread=ours.spread,
    )


def agreement(pairing: Pairing, names: tuple[str, str], unit: Unit) -> list[str]:
    """Whether the frontiers agree within their intervals, a sentence or more."""
    said = [_agreement(pairing, names, unit)]
    for name in names:
        points = [point for study, point in pairing.unmatched if study == name]
        if points:
            sizes = ", ".join(unit.text(point.bytes) for point in points)
            said.append(f"Only the frontier of {name} goes on to smaller sizes: {sizes}.")
    return said


def _agreement(pairing: Pairing, names: tuple[str, str], unit: Unit) -> str:
    where, metric = SPLITS[pairing.split], metric_name(pairing.metric)
    count = f"any of the {pluralize(len(pairing.sizes), 'size')}" if len(pairing.sizes) > 1 else "the one size"
    if not pairing.sizes:
        return "One of the studies has no frontier, so there is nothing to compare."
    known = [(at, at.difference) for at in pairing.sizes if at.difference is not None]
    if not known:
        what = pluralize(pairing.spread.documents, "document")
        return (
            f"Whether the frontiers agree can't be told: {where} has {what}, and fewer than {LEAST_DOCUMENTS} show "
            "nothing."
        )
    told = [(at, difference) for at, difference in known if difference.shown]
    together = f"{100 - 100 * ALPHA:g} % for all of them together"
    if not told:
        most = max(max(abs(difference.low), abs(difference.high)) for _, difference in known)
        return (
            f"The frontiers agree within their intervals: on {where}, no difference is shown at {count} where either "
            f"has a point ({together}). Differences of more than {most:.2f} {metric} are ruled out, smaller ones are "
            "not."
        )
    each = "; ".join(
        f"{names[1] if difference.measured > 0 else names[0]} is better at {unit.text(at.bytes)}, by "
        f"{abs(difference.measured):.2f} {metric} ({names[1]} minus {names[0]}: {signed(difference.low)} to "
        f"{signed(difference.high)})"
        for at, difference in told
    )
    rest = len(known) - len(told)
    others = f" At {pluralize(rest, 'other size')} no difference is shown." if rest else ""
    return f"The frontiers differ on {where}: {each} ({together}).{others}"


def _at_sizes(one: Results, other: Results, names: tuple[str, str]) -> tuple[list[AtSize], list[tuple[str, Point]]]:
    """At each size of either frontier what both offer; and the points that are smaller than all of the other's."""
    found: list[AtSize] = []
    unmatched: list[tuple[str, Point]] = []
    every = sorted([*one.frontier, *other.frontier], key=lambda point: -point.bytes)
    for point in every:
        mine, yours = (_offered(results, point.bytes) for results in (one, other))
        if mine is None or yours is None:
            unmatched.append((names[0] if yours is None else names[1], point))
        elif not any((at.one, at.other) == (mine, yours) for at in found):
            found.append(AtSize(point.bytes, mine, yours))
    return found, unmatched


def _offered(results: Results, size: int) -> Point | None:
    """The best point of the frontier, or not told apart from it, that is no larger: of two searches one may have shown
    what the other has and could not."""
    standing = [point for point in results.points if point.on_frontier or point.tie is not None]
    fitting = [point for point in standing if point.bytes <= size * (1 + SAME_SIZE)]
    return max(fitting, key=lambda point: (point.quality, -point.bytes), default=None)


def _both_tried(one: Results, other: Results) -> list[AtSize]:
    theirs = {point.record.candidate.digest: point for point in other.points}
    pairs = [(point, theirs.get(point.record.candidate.digest)) for point in one.points]
    found = [AtSize(mine.bytes, mine, yours) for mine, yours in pairs if yours is not None]
    return sorted(found, key=lambda at: (-at.bytes, at.one.record.number))


def _with_differences(found: Sequence[AtSize], ours: Intervals, theirs: Intervals) -> tuple[AtSize, ...]:
    if not found:
        return ()
    differences = simultaneous(
        [at.other.quality for at in found],
        [at.one.quality for at in found],
        _samples(theirs, [at.other for at in found]),
        _samples(ours, [at.one for at in found]),
        ours.spread,
    )
    if differences is None:
        return tuple(found)
    return tuple(
        AtSize(at.bytes, at.one, at.other, difference) for at, difference in zip(found, differences, strict=True)
    )


def _samples(intervals: Intervals, points: Sequence[Point]) -> Samples:
    return np.asarray(intervals.samples([point.record for point in points]))
