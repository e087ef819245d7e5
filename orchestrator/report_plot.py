"""What the report's interactive plot draws, as plain data for the page's script."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from orchestrator.report_labels import Unit, interval_text, kinds_of, ratio_text, score_of
from orchestrator.report_steps import short_label
from orchestrator.results import QUALITY, Point, Results


def plot_data(views: Mapping[str, Results], unit: Unit) -> dict[str, Any]:
    """views: split -> its results, the first shown first. Sizes are in `unit`, scores in the metric's points."""
    kinds = kinds_of(point for results in views.values() for point in results.points)
    return {
        "unit": unit.name,
        "kinds": kinds,
        "views": {split: _view(results, unit) for split, results in views.items()},
    }


def _view(results: Results, unit: Unit) -> dict[str, Any]:
    baseline = results.baseline
    return {
        "baseline": None if baseline is None else {"size": unit.of(baseline.bytes), "chrf": baseline.quality},
        "points": [_point(point, baseline, unit) for point in results.points],
    }


def _point(point: Point, baseline: Point | None, unit: Unit) -> dict[str, Any]:
    interval = point.interval
    pair, worst = point.measurement.worst_pair(QUALITY)
    bleu = score_of(point, "bleu")
    bounds = None
    if interval is not None and baseline is not None and point.steps:
        bounds = [baseline.quality + interval.low, baseline.quality + interval.high]
    return {
        "digest": point.record.candidate.digest,
        "trial": point.record.number,
        "label": short_label(point.record.candidate),
        "steps": point.label,
        "kind": point.record.candidate.kind,
        "bytes": point.bytes,
        "size": unit.of(point.bytes),
        "sizeText": unit.text(point.bytes),
        "ratioText": ratio_text(point.ratio),
        "chrf": point.quality,
        "bleu": bleu if bleu is None or math.isfinite(bleu) else None,
        "worstPair": pair,
        "worst": worst,
        "bounds": bounds,
        "intervalText": interval_text(interval),
        "frontier": point.on_frontier,
    }
