"""The report's table of published points, apart from the study's own."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.number_format import NONE, Unit, metric_name, ratio_text
from orchestrator.report.html_parts import cell, head, note, number, section, table, text
from orchestrator.report.published.placing import Placed, place_or_why
from orchestrator.report.published.points_file import PublishedPoint
from orchestrator.results.points import Results

ABOUT = (
    "Results that other people published of their own models, on their own data and with their own baselines. Nothing "
    "here was measured in this study, and no point of it is compared with them: they only show what to expect. The "
    "plot draws them hollow, a ratio and a share kept as the same ratio and share of this study's baseline."
)


def published_section(points: Sequence[PublishedPoint], results: Results, unit: Unit) -> str:
    """A row a published point; empty without any."""
    if not points:
        return ""
    names = [
        ("Published point", ""),
        ("Ratio", "number"),
        (unit.name, "number"),
        ("Metric", ""),
        ("Score", "number"),
        ("Kept", "number"),
        ("Drawn at", ""),
        ("Source", ""),
    ]
    rows = [_row(point, place_or_why(point, results), results, unit) for point in points]
    made = table(head(names, sortable=True), rows, "sortable published")
    return section("published", "Published results of other models", note(ABOUT), made)


def _row(point: PublishedPoint, at: Placed | str, results: Results, unit: Unit) -> str:
    where, style = (at, "faint") if isinstance(at, str) else (unit.text(round(at.bytes)), "")
    if not isinstance(at, str):
        where += f", {metric_name(results.metric)} {at.quality:.2f}"
    cells = [
        cell(text(point.label), style="full-steps"),
        number(NONE if point.ratio is None else ratio_text(point.ratio), point.ratio),
        number(NONE if point.bytes is None else f"{unit.of(point.bytes):,.2f}", point.bytes),
        cell(text(metric_name(point.metric))),
        number(NONE if point.score is None else f"{point.score:.2f}", point.score),
        number(NONE if point.kept_percent is None else f"{point.kept_percent:.1f}%", point.kept_percent),
        cell(text(where), style=style),
        cell(text(point.source), style="message"),
    ]
    return f"<tr>{''.join(cells)}</tr>"
