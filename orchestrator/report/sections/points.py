"""The report's table of all points: a line each, from best to worst; what else there is to say opens by a click."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.number_format import NONE, Unit, metric_name, ratio_text
from orchestrator.report.html_parts import cell, head, number, table, text
from orchestrator.report.sections.cells import candidate_cell, interval_cell, mark_cell, row_tag, score_cell
from orchestrator.results.points import Point, Results


def points_table(results: Results, unit: Unit) -> str:
    """Every trial that was measured in full, a row each, sortable."""
    partly = any(point.measurement.footprint.compressed_fraction < 1.0 for point in results.points)
    quality, *others = results.metrics
    names = [
        ("Trial", "number"),
        ("Frontier", "centre"),
        ("Candidate", ""),
        (unit.name, "number"),
        ("Ratio", "number"),
        (metric_name(quality), "number"),
        ("Kept", "number"),
        ("95 % interval of the difference", "number"),
        (f"Worst pair, {metric_name(quality)}", ""),
        *((metric_name(metric), "number") for metric in others),
        *([("Changed", "number")] if partly else []),
        ("Seconds", "number"),
    ]
    rows = [_row(point, results, unit, others, partly) for point in results.best_first]
    return table(head(names, sortable=True), rows, "sortable points")


def _row(point: Point, results: Results, unit: Unit, others: Sequence[str], partly: bool) -> str:
    measurement = point.measurement
    pair, worst = measurement.worst_pair(point.metric)
    seconds = sum(measurement.seconds.values())
    stages = ", ".join(f"{stage} {spent:.1f} s" for stage, spent in measurement.seconds.items())
    cells = [
        number(str(point.record.number), point.record.number),
        mark_cell(point),
        candidate_cell(point, unit, results.baseline),
        number(f"{unit.of(point.bytes):,.2f}", point.bytes),
        number(ratio_text(point.ratio), point.ratio),
        number(f"{point.quality:.2f}", point.quality, "main"),
        _kept_cell(point, results.baseline),
        interval_cell(point),
        cell(f'{text(pair)} <span class="figure">{worst:.2f}</span>', worst, "one-line"),
        *(score_cell(point, metric) for metric in others),
        *([_changed_cell(point)] if partly else []),
        f'<td class="number" data-order="{seconds}" title="{text(stages)}">{seconds:,.1f}</td>',
    ]
    return f"{row_tag(point)}{''.join(cells)}</tr>"


def _kept_cell(point: Point, baseline: Point | None) -> str:
    """The share of the baseline's quality."""
    if baseline is None or baseline.quality <= 0:
        return number(NONE, None)
    share = point.quality / baseline.quality
    return number(f"{share:.1%}", share)


def _changed_cell(point: Point) -> str:
    """The share of the targeted weights that a trial changed; empty for the baseline, which has no targets."""
    if not point.steps:
        return cell("")
    share = point.measurement.footprint.compressed_fraction
    return number(f"{share:.1%}", share, "warn" if share < 1.0 else "faint")


def shown_points(results: Results) -> list[Point]:
    """The baseline, then the frontier's other points and its ties that are kept, from the largest to the smallest."""
    others = [point for point in results.shown if point.steps]
    return others if results.baseline is None else [results.baseline, *others]
