"""Where the bytes of each point are, and where the study's time went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.number_format import NONE, Unit, spell_seconds
from orchestrator.report.html_parts import cell, head, note, number, table, text
from orchestrator.report.sections.bars import key, stacked
from orchestrator.results.cost import Cost
from orchestrator.results.points import Point
from orchestrator.results.step_labels import short_label
from search_spaces.sizes.byte_parts import PARTS, ByteParts

BYTES_NOTE = (
    "By the names of the tensors in each model's files. Scales are what stands beside packed integers, zero points "
    "included; files are config, tokenizer and headers.{predicted}"
)
PREDICTED = " Of points with * the model was not kept: their parts are predicted from the base's."
# As the ledger has them.
SPLITS = {
    "profile": "profile",
    "dev": "search",
    "control": "control arms",
    "test": "held-out test",
    "control_test": "control arms, held-out test",
    "speed": "timing",
}


def bytes_parts(points: Sequence[Point], found: Mapping[int, ByteParts], unit: Unit) -> str:
    """A bar a point, from the largest, with its numbers; empty where nothing is known."""
    known = [(point, found[point.record.number]) for point in points if point.record.number in found]
    if not known:
        return ""
    order = [part for part in PARTS if any(part in one.parts for _, one in known)]
    whole = float(max(sum(one.parts.values()) for _, one in known))
    names = [("Point", ""), (unit.name, "number"), ("", "bars"), *((part, "number") for part in order)]
    rows = [_bytes_row(point, one, order, whole, unit) for point, one in known]
    predicted = PREDICTED if any(one.predicted for _, one in known) else ""
    return note(BYTES_NOTE.format(predicted=predicted)) + key(order) + table(head(names), rows)


def _bytes_row(point: Point, one: ByteParts, order: Sequence[str], whole: float, unit: Unit) -> str:
    size = sum(one.parts.values())
    spelt = {part: f"{unit.text(value)}, {value / size:.0%}" for part, value in one.parts.items()}
    label = short_label(point.record.candidate) + (" *" if one.predicted else "")
    cells = [
        f'<td class="steps" title="{text(point.label)}">{text(label)}</td>',
        number(f"{unit.of(size):,.2f}", size),
        cell(stacked(one.parts, order, whole, spelt), style="bars"),
        *(_share(one.parts.get(part), unit) for part in order),
    ]
    return f'<tr data-digest="{text(point.record.candidate.digest)}">{"".join(cells)}</tr>'


def _share(value: int | None, unit: Unit) -> str:
    return number(NONE if value is None else f"{unit.of(value):,.2f}", value)


def time_parts(cost: Cost, points: Sequence[Point]) -> str:
    """Seconds by stage over the whole study, seconds a trial by split, and a bar a point."""
    if not cost.stages:
        return ""
    whole = sum(cost.stages.values())
    order = list(cost.stages)
    most = max(cost.stages.values())
    stages = [
        f"<tr>{cell(text(stage))}{number(f'{spent:,.1f}', spent)}{number(f'{spent / whole:.1%}', spent / whole)}"
        f"{cell(stacked({stage: spent}, order, most, {stage: spell_seconds(spent)}), style='bars')}</tr>"
        for stage, spent in cost.stages.items()
    ]
    splits = [
        f"<tr>{cell(text(SPLITS.get(split, split)))}{number(f'{count:,}', count)}{number(f'{seconds:,.1f}', seconds)}"
        f"{number(f'{seconds / count:,.1f}', seconds / count)}</tr>"
        for split, (count, seconds) in cost.splits.items()
    ]
    by_stage = table(head([("Stage", ""), ("Seconds", "number"), ("Share", "number"), ("", "bars")]), stages)
    by_split = table(
        head([("Trials of the", ""), ("Trials", "number"), ("Seconds", "number"), ("Seconds a trial", "number")]),
        splits,
    )
    return (
        note("Of all trials, by the stages of each; on several workers they overlap.")
        + by_stage
        + "<h3>Seconds a trial</h3>"
        + by_split
        + _by_point(points, order)
    )


def _by_point(points: Sequence[Point], order: Sequence[str]) -> str:
    seconds = {point.record.number: dict(point.measurement.seconds) for point in points}
    longest = max((sum(spent.values()) for spent in seconds.values()), default=0.0)
    if not longest:
        return ""
    rows = []
    for point in points:
        spent = seconds[point.record.number]
        spelt = {stage: f"{value:,.1f} s" for stage, value in spent.items()}
        cells = [
            f'<td class="steps" title="{text(point.label)}">{text(short_label(point.record.candidate))}</td>',
            number(f"{sum(spent.values()):,.1f}", sum(spent.values())),
            cell(stacked(spent, order, longest, spelt), style="bars"),
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    names = [("Point, on dev", ""), ("Seconds", "number"), ("", "bars")]
    stages = {stage for spent in seconds.values() for stage in spent}
    return "<h3>Seconds a point</h3>" + key(order, stages) + table(head(names), rows)
