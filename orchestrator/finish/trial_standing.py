"""Where a trial stands in its study, as MLflow's runs have it: in numbers and in words."""

from __future__ import annotations

import math

from mlflow_tracking.standing import standing_tags
from mlflow_tracking.trial_fields import metric_key
from orchestrator.ledger.records import TrialRecord
from orchestrator.results.points import Dropped, Point


def standing_numbers(point: Point) -> dict[str, float]:
    """What the study says of a point: its place, its speeds, and the bounds of its differences to the uncompressed
    model."""
    standing = {
        "ratio": point.ratio,
        "on_frontier": float(point.on_frontier),
        "kept_off": float(bool(point.kept_off)),
        "tie": float(point.tie is not None),
    }
    intervals = {**point.beside} if point.interval is None else {point.metric: point.interval, **point.beside}
    for metric, interval in intervals.items():
        difference = f"{metric_key(metric)}_difference"
        standing |= {f"{difference}.low": interval.low, f"{difference}.high": interval.high}
    standing |= {f"speed.{name}": value for name, value in point.speeds.items()}
    return {name: value for name, value in standing.items() if math.isfinite(value)}


def standing_words(point: Point, rank: int, front: int) -> dict[str, str]:
    """Why the point is kept off the frontier, what it is not told apart from and what beats it, each a tag; empty words
    where that is not so. And what shows its place at a glance.

    An empty word takes the place of one that an earlier mirroring wrote. rank: its place among the `front` points of
    the frontier, 1 for the smallest.
    """
    reasons = "; ".join(point.kept_off)
    words = {"kept_off": reasons, "tie": _trial_text(point.tie), "beaten_by": _trial_text(point.beaten_by)}
    if point.on_frontier:
        place, said = "frontier", f"on the frontier, number {rank} of {front} by size"
    elif point.tie is not None:
        place, said = "not told apart", f"not told apart from {words['tie']}, which is no larger"
    elif point.beaten_by is not None:
        place, said = "beaten", f"beaten by {words['beaten_by']}, which is no larger and shown to be better"
    else:
        place, said = "kept off", f"kept off the frontier: {reasons}"
    return {**words, **standing_tags(place, said, point.measurement.notes)}


def dropped_words(dropped: Dropped) -> dict[str, str]:
    """Why a race ended the trial."""
    return {"race": dropped.why, **standing_tags("beaten", dropped.why, dropped.measurement.notes)}


def _trial_text(record: TrialRecord | None) -> str:
    return f"trial {record.number}: {record.candidate.describe() or 'baseline'}" if record else ""
