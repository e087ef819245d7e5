"""The curve of a training: what a step that trains showed on its way, as the ledger keeps it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Tokens read so far; the mean loss a target token and the tokens a second since the point before, the loss None at the
# start; the validation chrF, None where it was not taken.
CurvePoint = tuple[int, float | None, float, float | None]


@dataclass(frozen=True, slots=True)
class Curve:
    """step: the step that trained, in words. points: in the order of their tokens, never none."""

    step: str
    points: tuple[CurvePoint, ...]

    def __post_init__(self) -> None:
        if not self.points:
            raise ValueError(f"the curve of {self.step} has no point")
        for point in self.points:
            if not all(value is None or math.isfinite(value) for value in point):
                raise ValueError(f"the curve of {self.step} has {point}; a measured number is finite")

    def to_json(self) -> dict[str, Any]:
        """The curve as a JSON object; a point is a list."""
        return {"step": self.step, "points": [list(point) for point in self.points]}


def curve_from_json(record: Mapping[str, Any]) -> Curve:
    """The curve that `to_json` wrote."""
    return Curve(record["step"], tuple((tokens, loss, speed, chrf) for tokens, loss, speed, chrf in record["points"]))
