"""Cells that several tables of the report have: a point's row, its mark, its interval, its scores, its standing."""

from __future__ import annotations

from orchestrator.number_format import NONE, Unit, interval_text
from orchestrator.report.html_parts import cell, text
from orchestrator.results.labels import differs, marked_label, score_of
from orchestrator.results.points import Point
from orchestrator.results.step_labels import short_label
from search_spaces.outcome import Measurement
from workers.scoring.human_agreement import noticeable
from workers.training.enough import TROUBLES

FRONTIER_MARK = "\N{BLACK CIRCLE}"
TIE_MARK = "\N{WHITE CIRCLE}"
KEPT_OFF_MARK = "\N{MULTIPLICATION SIGN}"
# What stands in the same place for a reader who hears the page.
MARK_WORDS = {FRONTIER_MARK: "on the frontier", TIE_MARK: "not told apart from it", KEPT_OFF_MARK: "kept off it"}


def row_tag(point: Point) -> str:
    """A row's start, which links it to the plot."""
    style = "frontier" if point.on_frontier else ""
    return f'<tr data-digest="{text(point.record.candidate.digest)}" class="{style}">'


def mark_of(point: Point) -> str:
    """Whether it stands on the frontier, is not told apart from it, or is kept off it; empty for a point that is
    beaten."""
    if point.kept_off:
        return KEPT_OFF_MARK
    return FRONTIER_MARK if point.on_frontier else TIE_MARK if point.tie else ""


def mark_cell(point: Point, style: str = "centre mark") -> str:
    """The mark, which sorts the frontier first, then what is not told apart from it, then the others, and those kept
    off last."""
    mark = mark_of(point)
    order = 3 if point.kept_off else 0 if point.on_frontier else 1 if point.tie else 2
    said = f'<span title="{text(MARK_WORDS[mark])}">{mark}</span>' if mark else ""
    return cell(said, order, style)


def candidate_cell(point: Point, unit: Unit, baseline: Point | None) -> str:
    """The candidate in a few characters, and behind a click all that there is to say of its trial."""
    return cell(folded(marked_label(point), details_of(point, unit, baseline)), point.label, "steps")


def folded(label: str, inside: str) -> str:
    """A line that opens. inside: HTML; where it is empty, the line alone."""
    return f"<details><summary>{text(label)}</summary>{inside}</details>" if inside else text(label)


def details_of(point: Point, unit: Unit, baseline: Point | None) -> str:
    """Its steps in full, its standing and the reasons, how noticeable its difference is, and what its steps noted."""
    measurement = point.measurement
    felt = noticeable_text(point, baseline)
    said = [
        *([point.steps] if point.steps else []),
        *([standing] if (standing := standing_text(point, unit)) else []),
        *([felt] if felt else []),
    ]
    off = "".join(f'<span class="note warn">kept off: {text(reason)}</span>' for reason in point.kept_off)
    cut = measurement.truncated
    short = f'<span class="note warn">{cut:,} of {measurement.segments:,} cut at the length limit</span>' if cut else ""
    return off + "".join(f'<span class="note">{text(line)}</span>' for line in said) + short + notes_of(measurement)


def interval_cell(point: Point) -> str:
    """The interval of the difference from the baseline, faint where it holds 0; sorts by its middle."""
    middle = None if point.interval is None else (point.interval.low + point.interval.high) / 2
    order = "" if middle is None else repr(middle)
    return cell(text(shown_interval(point)), order, f"number {'' if differs(point) else 'faint'}".strip())


def shown_interval(point: Point) -> str:
    """The interval; a dash for the baseline."""
    return interval_text(point.interval) if point.steps else NONE


def score_cell(point: Point, metric: str) -> str:
    """A score beside the quality, with its own interval where it has one."""
    value = score_of(point, metric)
    interval = point.beside.get(metric) if point.steps else None
    about = f' title="{text(interval_text(interval))} against the baseline"' if interval else ""
    shown = NONE if value is None else f"<span{about}>{value:.2f}</span>"
    return cell(shown, "" if value is None else repr(value), "number")


def standing_text(point: Point, unit: Unit) -> str:
    """`not told apart from rtn 4-bit g64 (5.60 MB)`, or `beaten by …`; empty for a point of the frontier."""
    if point.kept_off:
        return ""
    for record, said in ((point.tie, "not told apart from"), (point.beaten_by, "beaten by")):
        if record is not None and record.measurement is not None:
            return f"{said} {short_label(record.candidate)} ({unit.text(record.measurement.footprint.bytes)})"
    return ""


def noticeable_text(point: Point, baseline: Point | None) -> str:
    """How likely people are to see the point's difference from the baseline; empty for the baseline itself."""
    return noticeable(point.metric, point.quality - baseline.quality) if baseline and point.steps else ""


def notes_of(measurement: Measurement) -> str:
    """What the trial's steps noted, as HTML; what a training did not do, or made worse, stands out."""
    return "".join(
        f'<span class="note{" warn" if note.startswith(TROUBLES) else ""}">{text(note)}</span>'
        for note in measurement.notes
    )
