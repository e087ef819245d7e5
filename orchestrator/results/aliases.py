"""Which trial each alias of a study's registered model names: pure, by the split that judges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from orchestrator.results.points import Results
from orchestrator.statistics.frontier import Objectives, on_frontier

BEST_QUALITY, KNEE, SMALLEST_AT_99, SMALLEST = "best-quality", "knee", "smallest-at-99", "smallest"
ALIASES = (BEST_QUALITY, KNEE, SMALLEST_AT_99, SMALLEST)
# Of the baseline's quality, what `smallest-at-99` asks for.
USUAL_SHARE = 0.99


class Choice(NamedTuple):
    """A compressed model that may stand on the frontier."""

    trial: int
    objectives: Objectives


class Judged(NamedTuple):
    """What aliases choose from, all as one split has it."""

    choices: tuple[Choice, ...]
    baseline: Objectives | None
    """The uncompressed model's."""


def judged(dev: Results) -> Judged:
    """The compressed points of a study that may stand, as the held-out data have them where the baseline has a score
    there, else as dev has them. dev: as `judge_on_test` returns it."""
    base = dev.baseline
    points = [point for point in dev.points if point.steps and not point.kept_off]
    if base is not None and base.held_out is not None:
        scored = [(point.record.number, point.held_out, point.bytes) for point in points if point.held_out is not None]
        choices = tuple(Choice(number, Objectives(found.quality, size)) for number, found, size in scored)
        return Judged(choices, Objectives(base.held_out.quality, base.bytes))
    on_dev = tuple(Choice(point.record.number, Objectives(point.quality, point.bytes)) for point in points)
    return Judged(on_dev, None if base is None else Objectives(base.quality, base.bytes))


def aliases(found: Judged) -> dict[str, int]:
    """Alias -> trial; an alias that no model earns is left out.

    `knee`: of the frontier as measured, the uncompressed model's end included, the point farthest above the chord
    between its ends in (log bytes, quality); where none lies above it, the best quality.
    """
    choices, baseline = found
    if not choices:
        return {}
    best = max(choices, key=lambda one: (one.objectives.quality, -one.objectives.bytes))
    named = {BEST_QUALITY: best.trial, KNEE: _knee(choices, baseline), SMALLEST: _smallest(choices).trial}
    if baseline is not None:
        enough = [one for one in choices if one.objectives.quality >= USUAL_SHARE * baseline.quality]
        if enough:
            named[SMALLEST_AT_99] = _smallest(enough).trial
    return {alias: named[alias] for alias in ALIASES if alias in named}


def _smallest(choices: Sequence[Choice]) -> Choice:
    return min(choices, key=lambda one: (one.objectives.bytes, -one.objectives.quality))


def _knee(choices: Sequence[Choice], baseline: Objectives | None) -> int:
    points = [*(one.objectives for one in choices), *([] if baseline is None else [baseline])]
    front = [one for one, keep in zip(points, on_frontier(points), strict=True) if keep]
    small, large = min(front, key=lambda one: one.bytes), max(front, key=lambda one: one.bytes)
    width = math.log(large.bytes / small.bytes)

    def height(one: Objectives) -> float:
        """Above the chord, in quality; which point is farthest from a chord does not depend on the axes' units."""
        if one not in front:
            return -math.inf
        if one in (small, large):
            return 0.0
        slope = (large.quality - small.quality) / width
        return one.quality - small.quality - slope * math.log(one.bytes / small.bytes)

    return max(choices, key=lambda one: (height(one.objectives), one.objectives.quality, -one.objectives.bytes)).trial
