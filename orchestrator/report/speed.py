"""The report's table of speed and memory: how fast each frontier point runs as it ships, or why that is not known."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.number_format import NONE, Unit
from orchestrator.report.html_parts import cell, head, number, table, text
from orchestrator.results.points import Point, Results
from search_spaces.outcome import Speed


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
    return table(head(names), [_row(point, speed, batches, unit) for point, speed in timed])


def _row(point: Point, speed: Speed, batches: Sequence[int], unit: Unit) -> str:
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
