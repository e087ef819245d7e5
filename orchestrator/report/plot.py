"""What the report's interactive plot draws, as plain data for the page's script."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.number_format import Unit, interval_text, metric_name, ratio_text
from orchestrator.report.published.placing import NAME as PUBLISHED
from orchestrator.report.published.placing import Placed, marked_name, placed
from orchestrator.report.published.points_file import PublishedPoint
from orchestrator.report.sections.cells import standing_text
from orchestrator.report.view import OTHERS, interval_bounds, is_logarithmic, quality_range, stands
from orchestrator.results.labels import kinds_of, score_of, spell_cost
from orchestrator.results.points import Dropped, Point, Results
from orchestrator.results.step_labels import short_label


def plot_data(views: Mapping[str, Results], unit: Unit, published: Sequence[PublishedPoint] = ()) -> dict[str, Any]:
    """views: split -> its results, the first shown first. Sizes are in `unit`, scores in the metric's points.

    published: other people's points, drawn beside the study's own.
    """
    points = [point for results in views.values() for point in results.points]
    kinds = kinds_of(point for point in points if stands(point))
    others = [OTHERS] if any(point.record.candidate.kind not in kinds for point in points) else []
    return {
        "unit": unit.name,
        "metric": metric_name(next(iter(views.values())).metric),
        "kinds": [*kinds, *others],
        "others": OTHERS,
        "published": PUBLISHED,
        "views": {split: _view(results, unit, kinds, published) for split, results in views.items()},
    }


def _view(results: Results, unit: Unit, kinds: Sequence[str], published: Sequence[PublishedPoint]) -> dict[str, Any]:
    baseline = results.baseline
    shown = quality_range(results)
    others = placed(published, results)
    trials: list[Point | Dropped] = [*results.points, *results.dropped]
    return {
        "logarithmic": is_logarithmic([*(trial.bytes for trial in trials), *(one.bytes for one in others)]),
        "range": None if shown is None else list(shown),
        "baseline": None if baseline is None else {"size": unit.of(baseline.bytes), "quality": baseline.quality},
        "points": [_point(point, results, unit, kinds) for point in results.points],
        "line": [[unit.of(point.bytes), point.quality] for point in results.line],
        "dropped": [_dropped(trial, unit) for trial in results.dropped],
        "published": [_published(one, shown, unit) for one in others],
    }


def _point(point: Point, results: Results, unit: Unit, kinds: Sequence[str]) -> dict[str, Any]:
    pair, worst = point.measurement.worst_pair(point.metric)
    bounds = interval_bounds(point, results.baseline)
    return {
        "digest": point.record.candidate.digest,
        "trial": point.record.number,
        "label": short_label(point.record.candidate),
        "steps": point.label,
        "kind": kind if (kind := point.record.candidate.kind) in kinds else OTHERS,
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
        "bounds": None if bounds is None else list(bounds),
        "intervalText": interval_text(point.interval),
        "costText": spell_cost(point, results.third),
        "frontier": point.on_frontier,
        "tied": point.tie is not None,
        "standing": standing_text(point, unit),
        "keptOff": list(point.kept_off),
        "reference": point.is_reference,
    }


def _published(one: Placed, shown: tuple[float, float] | None, unit: Unit) -> dict[str, Any]:
    return {
        "name": marked_name(one, shown),
        "source": one.point.source,
        "size": one.bytes / unit.bytes,
        "quality": one.quality,
        "ratioText": "" if one.point.ratio is None else ratio_text(one.point.ratio),
        "keptText": "" if one.point.kept_percent is None else f"keeps {one.point.kept_percent:g}%",
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
