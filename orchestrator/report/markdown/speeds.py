"""Speeds of a page: of a packed model, and of one with parts removed, beside the baseline's as it ships."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator.report.markdown.content import PageContent
from orchestrator.report.markdown.figure import Figure, of
from orchestrator.report.markdown.syntax import percent
from orchestrator.results.points import Point
from search_spaces.methods.registry import Step
from search_spaces.methods.trainers import Distill

PACKED_FROM, BATCH = 3.0, 64
STRUCTURED_AT = 0.98
TOKENS = f"tokens a second at a batch of {BATCH}"


def packed_speed(content: PageContent) -> Figure:
    """Of the largest packed point that is shown and at least `PACKED_FROM` times smaller."""
    about = f"{TOKENS} of the largest packed model that is at least {PACKED_FROM:g} times smaller, over the baseline's"

    def is_meant(point: Point) -> bool:
        packed = any(step.kind == "quantizer" for step in point.record.candidate.steps)
        return packed and point.ratio >= PACKED_FROM and point in content.shown

    return _ratio(content, about, is_meant, lambda point, speed: -point.ratio)


def structured_speed(content: PageContent) -> Figure:
    """Of the fastest point with parts removed and nothing in fewer bits that keeps `STRUCTURED_AT` on the mean."""
    about = (
        f"{TOKENS} of the fastest model with parts removed and nothing in fewer bits that keeps "
        f"{percent(STRUCTURED_AT, 0)} on the mean, over the baseline's"
    )
    kept = {mean.number for mean, _ in content.standing if mean.share >= STRUCTURED_AT}

    def is_meant(point: Point) -> bool:
        return point.record.number in kept and is_structured(point.record.candidate.steps)

    return _ratio(content, about, is_meant, lambda point, speed: speed)


def is_structured(steps: Sequence[Step]) -> bool:
    """Whether whole parts were removed, and no weight is stored in fewer bits or as a zero."""
    smaller = [step for step in steps if step.kind != "trainer" or isinstance(step, Distill)]
    return bool(smaller) and all(step.kind in ("pruner", "trainer") for step in smaller)


def _ratio(
    content: PageContent, about: str, is_meant: Callable[[Point], bool], worth: Callable[[Point, float], float]
) -> Figure:
    usual = None if content.dev.baseline is None else _tokens_s(content.dev.baseline)
    if usual is None:
        reasons = [one.speed.reason for one in content.dev.points if one.speed is not None and one.speed.reason]
        return of(None, about, f"not timed: {reasons[0]}" if reasons else "the baseline was not timed")
    timed = [(point, speed) for point in content.dev.points if (speed := _tokens_s(point)) is not None]
    meant = [(point, speed) for point, speed in timed if is_meant(point)]
    if not meant:
        return of(None, about, "no such model was timed")
    point, speed = max(meant, key=lambda pair: worth(*pair))
    return of(speed / usual, f"{about}; it is trial {point.record.number}", "")


def _tokens_s(point: Point) -> float | None:
    return point.speed.tokens_s.get(BATCH) if point.speed is not None else None
