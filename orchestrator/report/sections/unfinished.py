"""Trials without a full score: those that failed, and those that a race ended early, grouped by why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from orchestrator.number_format import Unit, metric_name, ratio_text
from orchestrator.report.html_parts import cell, head, number, table, text
from orchestrator.report.sections.cells import notes_of
from orchestrator.results.points import Dropped, Results
from orchestrator.results.step_labels import short_label
from search_spaces.outcome import Failure
from search_spaces.wording import pluralize

VERDICTS = {
    "dominated": "worse than a point of no more bytes",
    "tie": "within the margin of a point of no more bytes",
    "below the floor": "below the study's floor",
}
# Groups of no more trials are open from the start.
FEW = 3


def failures_by_reason(results: Results) -> str:
    """The trials that ended in a failure, a group a reason and stage, the largest first."""
    if not results.failures:
        return "<p>No trial failed.</p>"
    groups: dict[str, list[str]] = {}
    for record, failure in results.failures:
        groups.setdefault(f"{spelt(failure)} in {failure.stage}", []).append(
            "<tr>"
            + number(str(record.number), record.number)
            + cell(text(record.candidate.describe() or "baseline"), style="full-steps")
            + cell(text(failure.message), style="message")
            + "</tr>"
        )
    return _groups(groups, head([("Trial", "number"), ("Steps", ""), ("Message", "")]), "failures")


def dropped_by_reason(results: Results, unit: Unit) -> str:
    """The trials that a race ended early, a group a verdict: how, and where they were heading."""
    names = [
        ("Trial", "number"),
        ("Candidate", ""),
        (unit.name, "number"),
        ("Ratio", "number"),
        (f"Projected {metric_name(results.metric)}", "number"),
        ("How it ended", ""),
    ]
    groups: dict[str, list[str]] = {}
    for trial in results.dropped:
        groups.setdefault(VERDICTS[trial.race.verdict], []).append(_dropped_row(trial, unit))
    return _groups(groups, head(names, sortable=True), "sortable")


def counts(results: Results) -> str:
    """`2 failed: out of memory 2. 5 dropped early: …`; empty where there are none."""
    said = []
    for what, reasons in (
        ("failed", [spelt(failure) for _, failure in results.failures]),
        ("dropped early", [VERDICTS[trial.race.verdict] for trial in results.dropped]),
    ):
        if reasons:
            each = ", ".join(f"{reasons.count(reason)} {reason}" for reason in _most_first(reasons))
            said.append(f"{pluralize(len(reasons), 'trial')} {what}: {each}.")
    return " ".join(said)


def spelt(failure: Failure) -> str:
    """A reason as people read it."""
    return failure.reason.replace("_", " ")


def _dropped_row(trial: Dropped, unit: Unit) -> str:
    notes = notes_of(trial.measurement)
    steps = f'<span class="note">{text(trial.record.candidate.describe())}</span>'
    label = text(short_label(trial.record.candidate))
    cells = [
        number(str(trial.record.number), trial.record.number),
        cell(f"<details><summary>{label}</summary>{steps}{notes}</details>", style="steps"),
        number(f"{unit.of(trial.bytes):,.2f}", trial.bytes),
        number(ratio_text(trial.ratio), trial.ratio),
        number(f"{trial.race.projected:.2f}", trial.race.projected, "faint"),
        cell(text(trial.why)),
    ]
    return f'<tr data-digest="{text(trial.record.candidate.digest)}">{"".join(cells)}</tr>'


def _groups(groups: Mapping[str, Sequence[str]], header: str, style: str) -> str:
    return "".join(
        f'<details class="group"{" open" if len(rows) <= FEW else ""}>'
        f"<summary>{text(reason)}: {pluralize(len(rows), 'trial')}</summary>{table(header, rows, style)}</details>"
        for reason, rows in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    )


def _most_first(reasons: Iterable[str]) -> list[str]:
    found = list(reasons)
    return sorted(dict.fromkeys(found), key=lambda reason: (-found.count(reason), reason))
