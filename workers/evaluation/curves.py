"""A training's curve cut down to what an artefact and the ledger keep of it."""

from __future__ import annotations

from collections.abc import Sequence

from search_spaces.curve import Curve
from workers.runtime.training_progress import POINTS, CurvePoint

LOSS_DIGITS = 4
SPEED_DIGITS = 1
CHRF_DIGITS = 3


def kept_curve(step: str, points: Sequence[CurvePoint]) -> Curve:
    """The curve of the step, of about POINTS points at most, spread evenly; the ends and every validation score stay.

    step: in words. What a point says of the stretch before it is then of the stretch since the point that was left out.
    """
    return Curve(
        step,
        tuple(
            (
                point.tokens,
                None if point.loss is None else round(point.loss, LOSS_DIGITS),
                round(point.tokens_s, SPEED_DIGITS),
                None if point.chrf is None else round(point.chrf, CHRF_DIGITS),
            )
            for point in _spread(points)
        ),
    )


def _spread(points: Sequence[CurvePoint]) -> list[CurvePoint]:
    last = len(points) - 1
    if last < POINTS:
        return list(points)
    even = {round(at * last / (POINTS - 1)) for at in range(POINTS)}
    return [point for at, point in enumerate(points) if at in even or point.chrf is not None]
