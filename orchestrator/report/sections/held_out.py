"""What dev chose, its dev figures beside those of the held-out test, which had no part in the choice."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.number_format import Unit, metric_name, ratio_text
from orchestrator.report.html_parts import cell, head, number, table, text
from orchestrator.report.sections.cells import (
    details_of,
    folded,
    interval_cell,
    mark_of,
    row_tag,
    score_cell,
    shown_interval,
)
from orchestrator.report.sections.points import shown_points
from orchestrator.results.labels import differs, marked_label
from orchestrator.results.points import Point, Results


def held_out_table(dev: Results, test: Results, unit: Unit) -> str:
    """A row a point that was chosen, from the largest to the smallest."""
    measured = {point.record.candidate.digest: point for point in test.points}
    failed = {record.candidate.digest: failure.reason for record, failure in test.failures}
    quality, others = metric_name(test.metric), test.metrics[1:]
    names = [
        ("Point", ""),
        (unit.name, "number"),
        ("Ratio", "number"),
        (f"dev {quality}", "number"),
        ("dev interval", "number"),
        (f"test {quality}", "number"),
        ("test interval", "number"),
        *((f"test {metric_name(metric)}", "number") for metric in others),
        (f"test worst pair, {quality}", ""),
        ("On the test's frontier", "centre"),
    ]
    rows = []
    chosen = {point.record.key for point in shown_points(dev)}
    scored = [
        point
        for point in sorted(dev.points, key=lambda point: (bool(point.steps), -point.bytes))
        if point.record.key in chosen or point.record.candidate.digest in measured | failed.keys()
    ]
    for point in scored:
        digest = point.record.candidate.digest
        why = failed.get(digest)
        rows.append(_row(point, measured.get(digest), failed=why, results=test, others=others, unit=unit))
    return table(head(names), rows, "held-out")


def _row(
    point: Point, test: Point | None, failed: str | None, results: Results, others: Sequence[str], unit: Unit
) -> str:
    label = marked_label(point)
    inside = "" if test is None else details_of(test, unit, results.baseline)
    cells = [
        cell(folded(label, inside), style="steps"),
        number(f"{unit.of(point.bytes):,.2f}", point.bytes),
        number(ratio_text(point.ratio), point.ratio),
        number(f"{point.quality:.2f}", point.quality),
        number(shown_interval(point), None, "" if differs(point) else "faint"),
    ]
    if test is None:
        why = f"failed: {failed.replace('_', ' ')}" if failed else "not measured"
        return f'{row_tag(point)}{"".join(cells)}<td colspan="{4 + len(others)}" class="warn">{text(why)}</td></tr>'
    pair, worst = test.measurement.worst_pair(test.metric)
    cells += [
        number(f"{test.quality:.2f}", test.quality, "main"),
        interval_cell(test),
        *(score_cell(test, metric) for metric in others),
        cell(f'{text(pair)} <span class="figure">{worst:.2f}</span>', style="one-line"),
        cell(mark_of(test) or "no", style="centre mark" if test.on_frontier else "centre faint"),
    ]
    return f"{row_tag(point)}{''.join(cells)}</tr>"
