"""The report's tables of trials: every point, the failures, the frontier on the held-out test, speed and memory."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.number_format import NONE, Unit, interval_text, metric_name, ratio_text
from orchestrator.report.html_parts import cell, head, number, table, text
from orchestrator.report.standing import notes_of, noticeable_text, standing_text
from orchestrator.results.labels import differs, score_of
from orchestrator.results.points import Point, Results
from orchestrator.results.step_labels import short_label
from search_spaces.outcome import Speed

FRONTIER_MARK = "\N{BLACK CIRCLE}"
TIE_MARK = "\N{WHITE CIRCLE}"
KEPT_OFF_MARK = "\N{MULTIPLICATION SIGN}"


def points_table(results: Results, unit: Unit) -> str:
    """Every trial that was measured in full, a row each, sortable."""
    partly = any(point.measurement.footprint.compressed_fraction < 1.0 for point in results.points)
    quality, *others = results.metrics
    names = [
        ("Trial", "number"),
        ("Frontier", "centre"),
        ("Steps", ""),
        (unit.name, "number"),
        ("Ratio", "number"),
        (metric_name(quality), "number"),
        ("95 % interval of the difference", "number"),
        *((metric_name(metric), "number") for metric in others),
        (f"Worst pair, {metric_name(quality)}", ""),
        *([("Changed", "number")] if partly else []),
        ("Cut short", "number"),
        ("Seconds", "number"),
    ]
    rows = [_point_row(point, results, unit, others, partly) for point in results.points]
    return table(head(names, sortable=True), rows, "sortable points")


def _point_row(point: Point, results: Results, unit: Unit, others: Sequence[str], partly: bool) -> str:
    measurement = point.measurement
    pair, worst = measurement.worst_pair(point.metric)
    seconds = sum(measurement.seconds.values())
    stages = ", ".join(f"{stage} {spent:.1f} s" for stage, spent in measurement.seconds.items())
    cells = [
        number(str(point.record.number), point.record.number),
        cell(_mark(point), _mark_order(point), "centre mark"),
        cell(f"{text(point.label)}{_standing(point, unit)}{notes_of(measurement)}", point.label, "steps"),
        number(f"{unit.of(point.bytes):,.2f}", point.bytes),
        number(ratio_text(point.ratio), point.ratio),
        number(f"{point.quality:.2f}", point.quality, "main"),
        _interval_cell(point, results.baseline),
        *(_score_cell(point, metric) for metric in others),
        cell(f'{text(pair)} <span class="figure">{worst:.2f}</span>', worst, "one-line"),
        *([_changed_cell(point)] if partly else []),
        number(str(measurement.truncated), measurement.truncated, "warn" if measurement.truncated else "faint"),
        f'<td class="number" data-order="{seconds}" title="{text(stages)}">{seconds:,.1f}</td>',
    ]
    return f"{_row_tag(point)}{''.join(cells)}</tr>"


def _changed_cell(point: Point) -> str:
    """The share of the targeted weights that a trial changed; empty for the baseline, which has no targets."""
    if not point.steps:
        return cell("")
    share = point.measurement.footprint.compressed_fraction
    return number(f"{share:.1%}", share, "warn" if share < 1.0 else "faint")


def _standing(point: Point, unit: Unit) -> str:
    """Why the point is kept off the frontier, or what it is not told apart from, or beaten by."""
    reasons = "".join(f'<span class="note warn">kept off: {text(reason)}</span>' for reason in point.kept_off)
    said = standing_text(point, unit)
    return reasons + (f'<span class="note">{text(said)}</span>' if said else "")


def _mark(point: Point) -> str:
    if point.kept_off:
        return KEPT_OFF_MARK
    return FRONTIER_MARK if point.on_frontier else TIE_MARK if point.tie else ""


def _mark_order(point: Point) -> int:
    """The frontier sorts first, then what is not told apart from it, then the others, and those kept off last."""
    return 3 if point.kept_off else 0 if point.on_frontier else 1 if point.tie else 2


def _interval_cell(point: Point, baseline: Point | None) -> str:
    felt = noticeable_text(point, baseline)
    note = f'<span class="note">{text(felt)}</span>' if felt else ""
    order = "" if (middle := _middle(point)) is None else repr(middle)
    return cell(f"{text(_interval(point))}{note}", order, f"number {'' if differs(point) else 'faint'}".strip())


def _score_cell(point: Point, metric: str) -> str:
    value = score_of(point, metric)
    interval = point.beside.get(metric) if point.steps else None
    note = f'<span class="note one-line">{text(interval_text(interval))}</span>' if interval else ""
    return cell(NONE if value is None else f"{value:.2f}{note}", "" if value is None else repr(value), "number")


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
    """The baseline, then the frontier's other points and its ties that are kept, from the largest to the smallest."""
    others = [point for point in results.shown if point.steps]
    return others if results.baseline is None else [results.baseline, *others]


def held_out_table(dev: Results, test: Results, unit: Unit) -> str:
    """What dev chose, its dev figures beside its test figures."""
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
        rows.append(_held_out_row(point, measured.get(digest), failed=why, results=test, others=others, unit=unit))
    return table(head(names), rows, "held-out")


def _held_out_row(
    point: Point, test: Point | None, failed: str | None, results: Results, others: Sequence[str], unit: Unit
) -> str:
    cells = [
        f'<td class="steps" title="{text(point.label)}">{text(short_label(point.record.candidate))}</td>',
        number(f"{unit.of(point.bytes):,.2f}", point.bytes),
        number(ratio_text(point.ratio), point.ratio),
        number(f"{point.quality:.2f}", point.quality),
        number(_interval(point), None, "" if differs(point) else "faint"),
    ]
    if test is None:
        why = f"failed: {failed.replace('_', ' ')}" if failed else "not measured"
        return f'{_row_tag(point)}{"".join(cells)}<td colspan="{4 + len(others)}" class="warn">{text(why)}</td></tr>'
    pair, worst = test.measurement.worst_pair(test.metric)
    mark = _mark(test) or "no"
    cells += [
        number(f"{test.quality:.2f}", test.quality, "main"),
        _interval_cell(test, results.baseline),
        *(_score_cell(test, metric) for metric in others),
        cell(f'{text(pair)} <span class="figure">{worst:.2f}</span>', style="one-line"),
        cell(f"{mark}{_standing(test, unit)}", style="centre mark" if test.on_frontier else "centre faint"),
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


def speed_table(results: Results, unit: Unit) -> str:
    """A row a point whose speed was asked for, the uncompressed one first."""
    timed = [(point, point.speed) for point in results.points if point.speed is not None]
    timed.sort(key=lambda pair: -pair[0].bytes)
    batches = sorted({batch for _, speed in timed for batch in speed.tokens_s})
    names = [
        ("Trial", "number"),
        ("Steps", ""),
        *((f"Tokens/s at {batch}", "number") for batch in batches),
        ("Latency, s", "number"),
        ("Load, s", "number"),
        (f"Weights, {unit.name}", "number"),
        (f"Peak memory, {unit.name}", "number"),
        ("Linear layers by", ""),
    ]
    return table(head(names), [_speed_row(point, speed, batches, unit) for point, speed in timed])


def _speed_row(point: Point, speed: Speed, batches: Sequence[int], unit: Unit) -> str:
    cells = [number(str(point.record.number), point.record.number), cell(text(point.label), style="steps")]
    if speed.reason is not None:
        return f'<tr>{"".join(cells)}<td colspan="{len(batches) + 5}">not measured: {text(speed.reason)}</td></tr>'
    cells += [_figure(speed.tokens_s.get(batch), "{:,.0f}") for batch in batches]
    cells += [_figure(speed.latency, "{:.3f}"), _figure(speed.load_seconds, "{:.1f}")]
    for size in (speed.weights_bytes, speed.peak_bytes):
        cells.append(number(NONE if size is None else f"{unit.of(size):,.2f}", size))
    return f"<tr>{''.join(cells)}{cell(text(', '.join(speed.kernels)))}</tr>"


def _figure(value: float | None, form: str) -> str:
    return number(NONE if value is None else form.format(value), value)
