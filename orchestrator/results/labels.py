"""What a report writes of its points: the one unit of their sizes, their kinds, their scores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from orchestrator.number_format import GIGABYTES, MEGABYTES, Unit, spell_bytes
from orchestrator.results.limits import Third
from orchestrator.results.points import Dropped, Point, Results
from orchestrator.results.step_labels import short_label

GIGABYTES_FROM = 2_000_000_000
# What follows the name of a mark that the study names.
REFERENCE = " (reference)"
# A third objective -> what its column is called.
COSTS: Mapping[Third, str] = {"speed": "tokens/s", "memory": "memory"}


def unit_for(points: Iterable[Point | Dropped]) -> Unit:
    """The one unit that every size of a report is written in."""
    return GIGABYTES if max((point.bytes for point in points), default=0) >= GIGABYTES_FROM else MEGABYTES


def kinds_of(points: Iterable[Point]) -> list[str]:
    """The kinds of the points, sorted, the baseline's first: the order that colours and shapes are given in."""
    kinds = {point.record.candidate.kind for point in points}
    return sorted(kinds, key=lambda kind: (kind != "baseline", kind))


def marked_label(point: Point) -> str:
    """The candidate in a few characters, a reference point told as one."""
    return short_label(point.record.candidate) + (REFERENCE if point.is_reference else "")


def score_of(point: Point, metric: str) -> float | None:
    """The point's score in a metric, the mean over pairs; None where the study did not ask for that metric."""
    return point.measurement.overall(metric) if metric in point.measurement.scores else None


def cost_text(point: Point, third: Third | None) -> str:
    """What the point has of a third objective, such as `1,279` tokens a second; empty where it was not measured."""
    if third is None or not math.isfinite(point.cost):
        return ""
    return f"{1.0 / point.cost:,.0f}" if third == "speed" else spell_bytes(round(point.cost))


def third_note(third: Third | None) -> str:
    """What a third objective means for a frontier, behind a sentence about it; empty without one."""
    if third is None:
        return ""
    return (
        f" The study's third objective is {third}, of each model as it ships: a point is compared only with those that "
        "are as good in it, so that a larger one, no better, may stand off the line. What was not measured counts as "
        "the worst."
    )


def spell_cost(point: Point, third: Third | None) -> str:
    """`1,279 tokens/s`, `1.20 GB of memory`; empty without such an objective, or where it was not measured."""
    said = cost_text(point, third)
    return f"{said} {'tokens/s' if third == 'speed' else 'of memory'}" if said else ""


def differs(point: Point) -> bool:
    """Whether the point's interval leaves out 0: told apart from the baseline."""
    return point.interval is not None and not point.interval.low <= 0.0 <= point.interval.high


def signatures_of(splits: Sequence[Results]) -> list[tuple[str, str, str]]:
    """The distinct signatures of scores: (metric, the pairs that share it, signature)."""
    pairs: dict[tuple[str, str], set[str]] = {}
    for results in splits:
        for point in results.points:
            for metric, by_pair in point.measurement.scores.items():
                for pair, score in by_pair.items():
                    pairs.setdefault((metric, score.signature), set()).add(pair)
    return [(metric, ", ".join(sorted(names)), signature) for (metric, signature), names in sorted(pairs.items())]
