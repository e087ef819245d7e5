"""What the report's interactive plot draws, as plain data for the page's script."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from orchestrator.report_labels import Unit, interval_text, kinds_of, metric_name, ratio_text, score_of
from orchestrator.report_standing import standing_text
from orchestrator.report_steps import short_label
from orchestrator.results import Dropped, Point, Results


def plot_data(views: Mapping[str, Results], unit: Unit) -> dict[str, Any]:
    """views: split -> its results, the first shown first. Sizes are in `unit`, scores in the metric's points."""
    kinds = kinds_of(point for results in views.values() for point in results.points)
    return {
        "unit": unit.name,
        "metric": metric_name(next(iter(views.values())).metric),
        "kinds": kinds,
        "views": {split: _view(results, unit) for split, results in views.items()},
    }


def _view(results: Results, unit: Unit) -> dict[str, Any]:
    baseline = results.baseline
    return {
        "baseline": None if baseline is None else {"size": unit.of(baseline.bytes), "quality": baseline.quality},
        "points": [_point(point, results, unit) for point in results.points],
        "dropped": [_dropped(trial, unit) for trial in results.dropped],
    }


def _point(point: Point, results: Results, unit: Unit) -> dict[str, Any]:
    interval, baseline = point.interval, results.baseline
    pair, worst = point.measurement.worst_pair(point.metric)
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
        "quality": point.quality,
        "others": [
            f"{metric_name(metric)} {value:.2f}"
            for metric in results.metrics[1:]
            if (value := score_of(point, metric)) is not None and math.isfinite(value)
        ],
        "worstPair": pair,
        "worst": worst,
        "bounds": bounds,
        "intervalText": interval_text(interval),
        "frontier": point.on_frontier,
        "tied": point.tie is not None,
        "standing": standing_text(point, unit),
        "keptOff": list(point.kept_off),
    }


def _dropped(trial: Dropped, unit: Unit) -> dict[str, Any]:
    return {
        "digest": trial.record.candidate.digest,
        "trial": trial.record.number,
        "steps": trial.record.candidate.describe(),
        "size": unit.of(trial.bytes),
        "sizeText": unit.text(trial.bytes),
        "ratioText": ratio_text(trial.ratio),
        "projected": trial.race.projected,
        "why": trial.why,
    }
