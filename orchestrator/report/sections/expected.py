"""What a guided search expected of its candidates beside what it found, and the profile that it took that from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.ledger.records import TrialRecord
from orchestrator.number_format import Unit, metric_name
from orchestrator.report.html_parts import cell, head, note, number, section, table, text
from orchestrator.results.points import Point, Results
from orchestrator.results.step_labels import short_label
from search_spaces.outcome import Failure, Probe

NOTE = (
    "Before a candidate was tried, the search said what share of the baseline's {metric} it would keep: the mark, with "
    "the interval in which it should lie with 90 %. On the diagonal it was right. {told}"
)
PROFILE_NOTE = (
    "Each option by itself: how far it moves the model's next-token distributions from the baseline's, as the mean KL "
    "in nats over calibration pairs. What the search expected comes from these, and from each candidate that it tried. "
    "The profile took {seconds:,.0f} s in all."
)
# Of the drawing, in its own units.
SIDE, EDGE = 360.0, 46.0


@dataclass(frozen=True, slots=True)
class Foreseen:
    """A point that the profile chose. kept: the share of the baseline's quality that it was found to keep."""

    point: Point
    kept: float
    expected: float
    low: float
    high: float

    @property
    def within(self) -> bool:
        """Whether what was found lies in the interval."""
        return self.low <= self.kept <= self.high


def foreseen(results: Results, worst_pair: bool) -> list[Foreseen]:
    """The points of which something was expected, by trial number. worst_pair: whether that was of the pair that keeps
    least, and not of the mean over pairs."""
    baseline = results.baseline
    if baseline is None or baseline.quality <= 0:
        return []
    found = []
    for point in results.points:
        why = point.record.why
        if why:
            kept = _worst(point, baseline) if worst_pair else point.quality / baseline.quality
            found.append(Foreseen(point, kept, why["kept"], why["low"], why["high"]))
    return found


def expected_section(results: Results, probes: Sequence[TrialRecord], unit: Unit, worst_pair: bool) -> str:
    """The section; empty where no profile guided the search."""
    known = foreseen(results, worst_pair)
    if not known and not probes:
        return ""
    parts: list[str] = []
    if known:
        within = sum(one.within for one in known)
        told = f"{within} of {len(known)} lay within their interval."
        parts.append(note(NOTE.format(metric=metric_name(results.metric), told=told)))
        parts.append(drawing(known))
    if probes:
        seconds = sum(sum(one.outcome.seconds.values()) for one in probes if isinstance(one.outcome, Probe))
        parts += ["<h3>The profile</h3>", note(PROFILE_NOTE.format(seconds=seconds)), profile_table(probes, unit)]
    return section("expected", "Expected and found", *parts)


def drawing(known: Sequence[Foreseen]) -> str:
    """Found against expected, in per cent of the baseline's quality, as an SVG that needs no script."""
    values = [value for one in known for value in (one.kept, one.expected)]
    low = max(math.floor(10 * min(values)) / 10, 0.0)
    high = max(math.ceil(10 * max(values)) / 10, low + 0.1)
    ticks = [low + step * (high - low) / 5 for step in range(6)]

    def across(share: float) -> float:
        return EDGE + (min(max(share, low), high) - low) / (high - low) * SIDE

    def up(share: float) -> float:
        return 10 + SIDE - (across(share) - EDGE)

    lines = [
        f'<line x1="{EDGE:.1f}" y1="{up(tick):.1f}" x2="{EDGE + SIDE:.1f}" y2="{up(tick):.1f}" stroke="var(--rule)"/>'
        f'<text x="{EDGE - 6:.1f}" y="{up(tick) + 4:.1f}" text-anchor="end">{tick:.0%}</text>'
        f'<text x="{across(tick):.1f}" y="{SIDE + 28:.1f}" text-anchor="middle">{tick:.0%}</text>'
        for tick in ticks
    ]
    lines.append(
        f'<line x1="{across(low):.1f}" y1="{up(low):.1f}" x2="{across(high):.1f}" y2="{up(high):.1f}" '
        'stroke="var(--faint)" stroke-dasharray="4 4"/>'
    )
    for one in known:
        colour = "var(--kind-0)" if one.within else "var(--worse)"
        label = short_label(one.point.record.candidate)
        said = f"trial {one.point.record.number}, {label}: expected {one.expected:.1%}, found {one.kept:.1%}"
        lines.append(
            f'<g stroke="{colour}" fill="{colour}"><title>{text(said)}</title>'
            f'<line x1="{across(one.low):.1f}" y1="{up(one.kept):.1f}" x2="{across(one.high):.1f}" '
            f'y2="{up(one.kept):.1f}" stroke-opacity="0.5"/>'
            f'<circle cx="{across(one.expected):.1f}" cy="{up(one.kept):.1f}" r="4"/></g>'
        )
    width, height = EDGE + SIDE + 20, SIDE + 56
    names = (
        f'<text x="{EDGE + SIDE / 2:.1f}" y="{height - 8:.1f}" text-anchor="middle">expected</text>'
        f'<text x="12" y="{10 + SIDE / 2:.1f}" text-anchor="middle" '
        f'transform="rotate(-90 12 {10 + SIDE / 2:.1f})">found</text>'
    )
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" role="img" font-size="12" '
        f'fill="var(--faint)" aria-label="share of quality kept: found against expected">{"".join(lines)}{names}</svg>'
    )


def profile_table(probes: Sequence[TrialRecord], unit: Unit) -> str:
    """A row an option, as probed."""
    names = [("Option", ""), (unit.name, "number"), ("Divergence, nats", "number"), ("Seconds", "number")]
    return table(head(names, sortable=True), [_profile_row(one, unit) for one in probes], "sortable")


def _profile_row(probe: TrialRecord, unit: Unit) -> str:
    label, outcome = short_label(probe.candidate), probe.outcome
    if isinstance(outcome, Probe):
        seconds = sum(outcome.seconds.values())
        cells = [
            number(f"{unit.of(outcome.bytes):,.2f}", outcome.bytes),
            number(f"{outcome.nats:.2g}", outcome.nats),
            number(f"{seconds:,.1f}", seconds),
        ]
    else:
        why = outcome.message if isinstance(outcome, Failure) else ""
        cells = [
            number(f"{unit.of(probe.predicted_bytes):,.2f}", probe.predicted_bytes),
            cell(text(f"failed: {why}")),
            cell(""),
        ]
    return f"<tr>{cell(text(label), label)}{''.join(cells)}</tr>"


def _worst(point: Point, baseline: Any) -> float:
    scores, whole = (one.measurement.scores[one.metric] for one in (point, baseline))
    return min((scores[pair].value / whole[pair].value for pair in whole if pair in scores), default=math.nan)
