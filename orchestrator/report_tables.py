"""The report's tables: every point, the failures, the scores pair by pair, and the frontier on the held-out test."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.report_html import cell, head, number, table, text
from orchestrator.report_labels import (
    NONE,
    Unit,
    differs,
    interval_text,
    ratio_text,
    score_of,
    signed,
)
from orchestrator.report_steps import short_label
from orchestrator.results import QUALITY, Point, Results

FRONTIER_MARK = "\N{BLACK CIRCLE}"
PAIR_METRICS = (("chrf", "chrF"), ("bleu", "BLEU"))
# A difference of this many points gets the strongest tint.
TINT_AT = 8.0


def points_table(results: Results, unit: Unit) -> str:
    """Every trial that ended well, a row each, sortable."""
    partly = any(point.measurement.footprint.compressed_fraction < 1.0 for point in results.points)
    names = [
        ("Trial", "number"), ("Frontier", "centre"), ("Steps", ""), (unit.name, "number"), ("Ratio", "number"),
        ("chrF", "number"), ("95 % interval of the difference", "number"), ("BLEU", "number"), ("Worst pair, chrF", ""),
        *([("Compressed", "number")] if partly else []), ("Cut short", "number"), ("Seconds", "number"),
    ]  # fmt: skip
    rows = [_point_row(point, unit, partly) for point in results.points]
    return table(head(names, sortable=True), rows, "sortable points")


def _point_row(point: Point, unit: Unit, partly: bool) -> str:
    measurement = point.measurement
    pair, worst = measurement.worst_pair(QUALITY)
    bleu = score_of(point, "bleu")
    seconds = sum(measurement.seconds.values())
    stages = ", ".join(f"{stage} {spent:.1f} s" for stage, spent in measurement.seconds.items())
    share = measurement.footprint.compressed_fraction
    notes = "".join(f'<span class="note">{text(note)}</span>' for note in measurement.notes)
    cells = [
        number(str(point.record.number), point.record.number),
        cell(FRONTIER_MARK if point.on_frontier else "", int(not point.on_frontier), "centre mark"),
        cell(f"{text(point.label)}{notes}", point.label, "steps"),
        number(f"{unit.of(point.bytes):,.2f}", point.bytes),
        number(ratio_text(point.ratio), point.ratio),
        number(f"{point.quality:.2f}", point.quality, "main"),
        number(_interval(point), _middle(point), "" if differs(point) else "faint"),
        number(NONE if bleu is None else f"{bleu:.2f}", bleu),
        cell(f'{text(pair)} <span class="figure">{worst:.2f}</span>', worst, "one-line"),
        *([number(f"{share:.1%}", share, "warn" if share < 1.0 else "faint")] if partly else []),
        number(str(measurement.truncated), measurement.truncated, "warn" if measurement.truncated else "faint"),
        f'<td class="number" data-order="{seconds}" title="{text(stages)}">{seconds:,.1f}</td>',
    ]
    return f"{_row_tag(point)}{''.join(cells)}</tr>"


def failures_table(results: Results) -> str:
    """The trials that ended in a failure: why, in which stage, and the message."""
    if not results.failures:
        return "<p>No trial failed.</p>"
    rows = [
        "<tr>"
        + number(str(record.number), record.number)
        + cell(text(record.candidate.describe() or "baseline"), style="steps")
        + cell(text(failure.reason.replace("_", " ")))
        + cell(text(failure.stage))
        + cell(text(failure.message), style="message")
        + "</tr>"
        for record, failure in results.failures
    ]
    names = [("Trial", "number"), ("Steps", ""), ("Reason", ""), ("Stage", ""), ("Message", "")]
    return table(head(names), rows, "failures")


def shown_points(results: Results) -> list[Point]:
    """The baseline, then the frontier's other points from the largest to the smallest."""
    others = [point for point in results.frontier if point.steps]
    return others if results.baseline is None else [results.baseline, *others]


def pairs_table(results: Results, points: Sequence[Point], unit: Unit) -> str:
    """Scores by language pair (rows) and point (columns), each with its difference from the baseline."""
    names = [("Pair", ""), ("Metric", "")]
    columns = "".join(
        f'<th scope="col" class="number point" title="{text(point.label)}">{text(short_label(point.record.candidate))}'
        f'<span class="note">{text(unit.text(point.bytes))}</span></th>'
        for point in points
    )
    header = head(names).replace("</tr></thead>", f"{columns}</tr></thead>")
    rows = [
        _pair_row(pair, metric, label, points, results.baseline)
        for pair in (sorted(points[0].measurement.scores[QUALITY]) if points else [])
        for metric, label in PAIR_METRICS
        if metric in points[0].measurement.scores
    ]
    return table(header, rows, "pairs")


def _pair_row(pair: str, metric: str, label: str, points: Sequence[Point], baseline: Point | None) -> str:
    cells = "".join(_pair_cell(pair, metric, point, baseline) for point in points)
    style, name = ("first", text(pair)) if metric == PAIR_METRICS[0][0] else ("second", "")
    return f'<tr class="{style}"><th scope="row">{name}</th>{cell(label)}{cells}</tr>'


def _pair_cell(pair: str, metric: str, point: Point, baseline: Point | None) -> str:
    value = point.measurement.scores[metric][pair].value
    if baseline is None or not point.steps:
        return cell(f"{value:.2f}", style="number")
    difference = value - baseline.measurement.scores[metric][pair].value
    tint = round(100 * min(abs(difference) / TINT_AT, 1.0))
    side = "worse" if difference < 0 else "better"
    return (
        f'<td class="number tint {side}" style="--tint:{tint}%">{value:.2f} '
        f'<span class="difference">{text(signed(difference))}</span></td>'
    )


def held_out_table(dev: Results, test: Results, unit: Unit) -> str:
    """The frontier that dev chose, its dev figures beside its test figures."""
    measured = {point.record.candidate.digest: point for point in test.points}
    failed = {record.candidate.digest: failure.reason for record, failure in test.failures}
    names = [
        ("Point", ""), (unit.name, "number"), ("Ratio", "number"), ("dev chrF", "number"), ("dev interval", "number"),
        ("test chrF", "number"), ("test interval", "number"), ("test BLEU", "number"), ("test worst pair, chrF", ""),
        ("On the test's frontier", "centre"),
    ]  # fmt: skip
    rows = []
    for point in shown_points(dev):
        digest = point.record.candidate.digest
        rows.append(_held_out_row(point, measured.get(digest), failed.get(digest), unit))
    return table(head(names), rows, "held-out")


def _held_out_row(point: Point, test: Point | None, failed: str | None, unit: Unit) -> str:
    cells = [
        f'<td class="steps" title="{text(point.label)}">{text(short_label(point.record.candidate))}</td>',
        number(f"{unit.of(point.bytes):,.2f}", point.bytes),
        number(ratio_text(point.ratio), point.ratio),
        number(f"{point.quality:.2f}", point.quality),
        number(_interval(point), None, "" if differs(point) else "faint"),
    ]
    if test is None:
        why = f"failed: {failed.replace('_', ' ')}" if failed else "not measured"
        return f'{_row_tag(point)}{"".join(cells)}<td colspan="5" class="warn">{text(why)}</td></tr>'
    pair, worst = test.measurement.worst_pair(QUALITY)
    bleu = score_of(test, "bleu")
    cells += [
        number(f"{test.quality:.2f}", test.quality, "main"),
        number(_interval(test), None, "" if differs(test) else "faint"),
        number(NONE if bleu is None else f"{bleu:.2f}", bleu),
        cell(f'{text(pair)} <span class="figure">{worst:.2f}</span>', style="one-line"),
        cell(FRONTIER_MARK if test.on_frontier else "no", style="centre mark" if test.on_frontier else "centre faint"),
    ]
    return f"{_row_tag(point)}{''.join(cells)}</tr>"


def signatures_table(splits: Sequence[Results]) -> str:
    """The distinct sacreBLEU signatures: per metric, the pairs that share one."""
    pairs: dict[tuple[str, str], set[str]] = {}
    for results in splits:
        for point in results.points:
            for metric, by_pair in point.measurement.scores.items():
                for pair, score in by_pair.items():
                    pairs.setdefault((metric, score.signature), set()).add(pair)
    rows = [
        f"<tr>{cell(text(metric))}{cell(text(', '.join(sorted(names))))}{cell(f'<code>{text(signature)}</code>')}</tr>"
        for (metric, signature), names in sorted(pairs.items())
    ]
    return table(head([("Metric", ""), ("Pairs", ""), ("Signature", "")]), rows, "signatures")


def _row_tag(point: Point) -> str:
    style = "frontier" if point.on_frontier else ""
    return f'<tr data-digest="{text(point.record.candidate.digest)}" class="{style}">'


def _interval(point: Point) -> str:
    return interval_text(point.interval) if point.steps else NONE


def _middle(point: Point) -> float | None:
    return None if point.interval is None else (point.interval.low + point.interval.high) / 2
