"""One model of a study by a word: which point `knee`, `99%`, `<=2GB` or a trial's number means, and its folder."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.number_format import metric_name, ratio_text, read_bytes, spell_bytes
from orchestrator.results.points import Point, Results
from orchestrator.results.statement import join_numbers
from orchestrator.results.step_labels import short_label
from orchestrator.statistics.frontier import Objectives, on_frontier
from search_spaces.errors import StudyError

# Of the baseline's quality, what `smallest-at-99` asks for.
USUAL_SHARE = 0.99
FORMS = "{words}, a share of the baseline's quality such as 99%, a size such as <=2GB, or a trial's number"


@dataclass(frozen=True, slots=True)
class Judged:
    """What a pick chooses from: the compressed points that may stand on the frontier, each as one split has it."""

    points: tuple[Point, ...]
    """On dev, whose numbers name the trials; by trial number."""
    qualities: tuple[float, ...]
    """Of each point, on the split that judges."""
    baseline: Objectives | None
    """The uncompressed model, on that split."""
    split: str
    """The split's name, in words."""
    metric: str
    """The quality."""

    def best(self, key: Callable[[Objectives], tuple[float, ...]]) -> Point:
        """The point of the largest key; of equal ones the earliest."""
        return max(zip(self.points, self.objectives, strict=True), key=lambda pair: key(pair[1]))[0]

    @property
    def objectives(self) -> list[Objectives]:
        return [Objectives(quality, point.bytes) for point, quality in zip(self.points, self.qualities, strict=True)]

    def only(self, keep: Callable[[Objectives], bool]) -> Judged:
        """Those points alone whose objectives are kept."""
        kept = [at for at, one in enumerate(self.objectives) if keep(one)]
        return replace(
            self,
            points=tuple(self.points[at] for at in kept),
            qualities=tuple(self.qualities[at] for at in kept),
        )


def judged(dev: Results) -> Judged:
    """The points of a study as the held-out data have them, where the baseline has a score there; else as dev has them.

    dev: as `judge_on_test` returns it. Points that the held-out data have not scored are then left out: qualities of
    two splits can't be compared.
    """
    standing = [point for point in dev.points if point.steps and not point.kept_off]
    base = dev.baseline
    if base is not None and base.held_out is not None:
        scored = [(point, point.held_out) for point in standing if point.held_out is not None]
        return Judged(
            tuple(point for point, _ in scored),
            tuple(found.quality for _, found in scored),
            Objectives(base.held_out.quality, base.bytes),
            "the held-out data",
            dev.metric,
        )
    there = None if base is None else Objectives(base.quality, base.bytes)
    return Judged(tuple(standing), tuple(point.quality for point in standing), there, "dev", dev.metric)


def _smallest(found: Judged) -> Point:
    return found.best(lambda one: (-one.bytes, one.quality))


def _best_quality(found: Judged) -> Point:
    return found.best(lambda one: (one.quality, -one.bytes))


def _knee(found: Judged) -> Point:
    """The point of the measured frontier farthest above the chord between the frontier's two ends, in the plane of log
    bytes and quality; the uncompressed model may be an end, and is never the knee.

    The farthest point from a chord is the same in whatever units the axes are (Satopää et al. 2011,
    https://doi.org/10.1109/ICDCSW.2011.20, scale both to 1). Where no point lies above the chord, the end of higher
    quality.
    """
    ends = [*found.objectives, *([found.baseline] if found.baseline else [])]
    front = [one for one, keep in zip(ends, on_frontier(ends), strict=True) if keep]
    heights = dict(zip(front, above_chord(front), strict=True))
    lowest = -math.inf
    return found.best(lambda one: (heights.get(one, lowest), one.quality, -one.bytes))


def above_chord(front: Sequence[Objectives]) -> list[float]:
    """How far each point lies above the straight line between the smallest and the largest in (log bytes, quality), in
    units of quality; 0 at both ends. front: points of a frontier, at least one."""
    small, large = min(front, key=lambda one: one.bytes), max(front, key=lambda one: one.bytes)
    width = math.log(large.bytes) - math.log(small.bytes)
    if width == 0.0:
        return [0.0 for _ in front]
    slope = (large.quality - small.quality) / width

    def height(one: Objectives) -> float:
        if one in (small, large):
            return 0.0
        return one.quality - small.quality - slope * (math.log(one.bytes) - math.log(small.bytes))

    return [height(one) for one in front]


def _smallest_at(found: Judged, share: float) -> Point:
    if found.baseline is None:
        raise StudyError("the uncompressed model has no score, so no share of its quality is known; say another pick")
    if (point := _at_share(found, share)) is None:
        best = _best_quality(found)
        kept = max(found.qualities) / found.baseline.quality
        raise StudyError(
            f"no model kept {100 * share:g} % of the baseline's {metric_name(found.metric)} on {found.split}; trial "
            f"{best.record.number} kept most, {math.floor(1000 * kept) / 10:g} %"
        )
    return point


def _at_share(found: Judged, share: float) -> Point | None:
    """The smallest that kept this share of the baseline's quality."""
    if found.baseline is None:
        return None
    least = share * found.baseline.quality
    enough = found.only(lambda one: one.quality >= least)
    return _smallest(enough) if enough.points else None


def _best_within(found: Judged, most: int) -> Point:
    fitting = found.only(lambda one: one.bytes <= most)
    if not fitting.points:
        small = _smallest(found)
        raise StudyError(
            f"no model takes at most {spell_bytes(most)}; the smallest is trial {small.record.number}, with "
            f"{spell_bytes(small.bytes)}"
        )
    return _best_quality(fitting)


WORDS: dict[str, Callable[[Judged], Point]] = {
    "best-quality": _best_quality,
    "knee": _knee,
    "smallest-at-99": lambda found: _smallest_at(found, USUAL_SHARE),
    "smallest": _smallest,
}


ALIASES: dict[str, Callable[[Judged], Point | None]] = {
    **WORDS,
    "smallest-at-99": lambda found: _at_share(found, USUAL_SHARE),
}


def aliases(dev: Results) -> dict[str, int]:
    """Word of WORDS -> the number of the trial that it means, if any. dev: as in `picked`."""
    found = judged(dev)
    chosen = {word: choose(found) for word, choose in ALIASES.items()} if found.points else {}
    return {word: point.record.number for word, point in chosen.items() if point is not None}


def picked(dev: Results, pick: str) -> Point:
    """The point that a pick means: a word of WORDS; `99%`, the smallest that kept so much of the baseline's quality;
    `<=2GB`, the best quality of at most so many bytes; or a trial's number.

    dev: as `judge_on_test` returns it. All but a number choose among the compressed points that may stand on the
    frontier, by the held-out data where these scored the baseline. Raises StudyError for what is no pick, and where the
    study has no such point.
    """
    pick = pick.strip()
    if pick.isdecimal():
        return _numbered(dev, int(pick))
    choose = _chooser(pick)
    if choose is None:
        words = ", ".join(WORDS)
        raise StudyError(f"there is no pick {pick!r}; say {FORMS.format(words=words)} ({_numbers(dev)})")
    found = judged(dev)
    if not found.points:
        raise StudyError(f"no compressed model may stand on the frontier of {found.split}; name a trial by its number")
    return choose(found)


def _chooser(pick: str) -> Callable[[Judged], Point] | None:
    if pick in WORDS:
        return WORDS[pick]
    share = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", pick)
    if share is not None and float(share[1]) > 0:
        return lambda found: _smallest_at(found, float(share[1]) / 100)
    if pick.startswith("<=") and (most := read_bytes(pick[2:])) is not None:
        return lambda found: _best_within(found, most)
    return None


def _numbered(dev: Results, number: int) -> Point:
    for point in dev.points:
        if point.record.number == number:
            return point
    ended = {trial.record.number: f"was {trial.why}" for trial in dev.dropped}
    ended |= {record.number: f"failed, {failure.reason.replace('_', ' ')}" for record, failure in dev.failures}
    why = f"trial {number} {ended[number]}" if number in ended else f"no candidate's trial has the number {number}"
    raise StudyError(f"{why}; say one of {_numbers(dev)}")


def _numbers(dev: Results) -> str:
    numbers = sorted(point.record.number for point in dev.points if point.steps)
    return f"trials {join_numbers(numbers)}" if numbers else "no compressed model was measured"


def kept_folder(point: Point, kept: Mapping[int, Path]) -> Path:
    """The folder of a picked point's model. kept: trial number -> folder, of the models that were kept.

    Raises StudyError where it was not kept, with those that were; the uncompressed model never is.
    """
    number = point.record.number
    if number in kept:
        return kept[number]
    if not point.steps:
        raise StudyError(
            f"trial {number} is the uncompressed model, which is not copied; it is {point.record.candidate.base.name}"
        )
    there = "none was"
    if kept:
        plural = len(kept) > 1
        which = f"those of trials {join_numbers(sorted(kept))}" if plural else f"that of trial {min(kept)}"
        there = f"{which} {'were' if plural else 'was'}"
    raise StudyError(
        f"the model of trial {number} ({short_label(point.record.candidate)}) was not kept, {there}; a search with "
        "--keep all keeps every model"
    )


def described(point: Point) -> str:
    """`trial 16 (gptq 4-bit g64, emb 4-bit g64), 2.94 MB, 3.53× smaller`: which point was picked."""
    smaller = f", {ratio_text(point.ratio)} smaller" if math.isfinite(point.ratio) else ""
    return f"trial {point.record.number} ({short_label(point.record.candidate)}), {spell_bytes(point.bytes)}{smaller}"
