"""Marks to compare a frontier with: one quantizer alone, with no search and no training, as people use it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.report.markdown.content import PageContent
from orchestrator.results.points import Point, Results
from orchestrator.statistics.frontier import Objectives
from search_spaces.methods.quantizers import RTN, BitsAndBytes
from search_spaces.methods.registry import Step


@dataclass(frozen=True, slots=True)
class Above:
    """How the frontier stands to uniform rounding. above: points above the line, of `of` that can be compared. marks:
    trials of the marks. split: the data, in words."""

    above: int
    of: int
    marks: tuple[int, ...]
    split: str


def is_reference(steps: Sequence[Step]) -> bool:
    """Whether a chain is one quantizer alone."""
    return len(steps) == 1 and steps[0].kind == "quantizer"


def is_uniform(steps: Sequence[Step]) -> bool:
    """Whether it is rounding to one width, which looks at no data."""
    return is_reference(steps) and isinstance(steps[0], RTN | BitsAndBytes)


def references(content: PageContent) -> list[Point]:
    """The marks that were measured in full on dev, from the largest."""
    return sorted(
        (point for point in content.dev.points if is_reference(point.record.candidate.steps)),
        key=lambda point: -point.bytes,
    )


def above_uniform(content: PageContent) -> Above | None:
    """Of the compressed frontier points that are no such mark, those above the line through uniform rounding and the
    baseline: between two of these, straight in log bytes and quality. A point smaller than all marks is above where it
    is better than the smallest, and else can't be compared. On the data that judge where all marks have a score there,
    else on dev. None without marks, or without such a point.
    """
    for results, where in ((content.judged, content.where), (content.dev, "dev")):
        found = _above(content.dev, results, where)
        if found is not None:
            return found
    return None


def _above(dev: Results, results: Results, where: str) -> Above | None:
    there = {point.record.candidate.digest: point for point in results.points}
    marks = [point for point in dev.points if is_uniform(point.record.candidate.steps) and not point.kept_off]
    if not marks or results.baseline is None or any(mark.record.candidate.digest not in there for mark in marks):
        return None
    line = [
        Objectives(one.quality, one.bytes)
        for one in (results.baseline, *(there[mark.record.candidate.digest] for mark in marks))
    ]
    compared = []
    for point in dev.frontier:
        steps = point.record.candidate.steps
        judged = there.get(point.record.candidate.digest)
        if judged is None or not steps or is_uniform(steps):
            continue
        is_above = lies_above(Objectives(judged.quality, judged.bytes), line)
        if is_above is not None:
            compared.append(is_above)
    if not compared:
        return None
    return Above(sum(compared), len(compared), tuple(sorted(mark.record.number for mark in marks)), where)


def lies_above(point: Objectives, line: Sequence[Objectives]) -> bool | None:
    """Whether a point lies above the line through others, straight in log bytes between two neighbours; None where it
    is smaller than all of them, and not better than the smallest."""
    order = sorted(line, key=lambda one: one.bytes)
    smaller = [one for one in order if one.bytes <= point.bytes]
    larger = [one for one in order if one.bytes >= point.bytes]
    if not smaller:
        return True if point.quality > order[0].quality else None
    low, high = smaller[-1], larger[0] if larger else smaller[-1]
    if high.bytes == low.bytes:
        return point.quality > max(low.quality, high.quality)
    share = (math.log(point.bytes) - math.log(low.bytes)) / (math.log(high.bytes) - math.log(low.bytes))
    return point.quality > low.quality + share * (high.quality - low.quality)
