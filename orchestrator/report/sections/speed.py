"""Speed and memory of the models as they ship: a table, or a line where nothing but the baseline could be timed."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.number_format import NONE, Unit
from orchestrator.report.html_parts import cell, head, note, number, table, text
from orchestrator.results.points import Point, Results
from orchestrator.results.step_labels import short_label
from search_spaces.outcome import Speed
from search_spaces.wording import pluralize

SPEED_NOTE = (
    "Of the models as they ship, in the engine that translated: packed weights stay packed, and the bytes that they "
    "take on the device were checked against the files. Tokens a second with prompts read, so many segments at a time. "
    "Peak memory is torch's, of loading and decoding, keys and values included."
)


def speed_parts(results: Results, unit: Unit) -> str:
    """What is known of speed; empty where it was not asked for."""
    asked = [(point, point.speed) for point in results.points if point.speed is not None]
    if not asked:
        return ""
    asked.sort(key=lambda pair: -pair[0].bytes)
    untimed = [(point, speed) for point, speed in asked if speed.reason is not None]
    timed = [(point, speed) for point, speed in asked if speed.reason is None]
    why = _untimed(untimed)
    if not any(point.steps for point, _ in timed):
        said = "; ".join(f"the baseline {_tokens(speed)}" for _, speed in timed)
        return note(f"{why}{f' Measured: {said}.' if said else ''}")
    return note(SPEED_NOTE) + _table(timed, unit) + (note(why) if why else "")


def _untimed(untimed: Sequence[tuple[Point, Speed]]) -> str:
    """`Not measured, the kernels …: 8 points.`, each reason once."""
    reasons: dict[str, list[Point]] = {}
    for point, speed in untimed:
        reasons.setdefault(str(speed.reason), []).append(point)
    return " ".join(f"Not measured of {_named(points)}: {reason.rstrip('.')}." for reason, points in reasons.items())


def _named(points: Sequence[Point]) -> str:
    if len(points) > 3:
        return pluralize(len(points), "point")
    return ", ".join(short_label(point.record.candidate) for point in points)


def _tokens(speed: Speed) -> str:
    return ", ".join(f"{value:,.0f} tokens/s at {batch}" for batch, value in sorted(speed.tokens_s.items()))


def _table(timed: Sequence[tuple[Point, Speed]], unit: Unit) -> str:
    batches = sorted({batch for _, speed in timed for batch in speed.tokens_s})
    names = [
        ("Trial", "number"),
        ("Candidate", ""),
        *((f"Tokens/s at {batch}", "number") for batch in batches),
        ("Latency, s", "number"),
        ("Load, s", "number"),
        (f"Weights, {unit.name}", "number"),
        (f"Peak memory, {unit.name}", "number"),
        ("Linear layers by", ""),
    ]
    return table(head(names, sortable=True), [_row(point, speed, batches, unit) for point, speed in timed], "sortable")


def _row(point: Point, speed: Speed, batches: Sequence[int], unit: Unit) -> str:
    cells = [
        number(str(point.record.number), point.record.number),
        f'<td class="steps" title="{text(point.label)}">{text(short_label(point.record.candidate))}</td>',
    ]
    cells += [_figure(speed.tokens_s.get(batch), "{:,.0f}") for batch in batches]
    cells += [_figure(speed.latency, "{:.3f}"), _figure(speed.load_seconds, "{:.1f}")]
    for size in (speed.weights_bytes, speed.peak_bytes):
        cells.append(number(NONE if size is None else f"{unit.of(size):,.2f}", size))
    return f"<tr>{''.join(cells)}{cell(text(', '.join(speed.kernels)))}</tr>"


def _figure(value: float | None, form: str) -> str:
    return number(NONE if value is None else form.format(value), value)
