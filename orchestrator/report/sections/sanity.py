"""The sanity checks behind it all: the share of each trial's hypotheses that failed each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.number_format import Unit
from orchestrator.report.html_parts import cell, head, number, table, text
from orchestrator.results.points import Dropped, Point, Results
from orchestrator.results.step_labels import short_label
from search_spaces.wording import pluralize
from workers.reading.segments import DataSet
from workers.scoring.sanity import over_limits, unchecked_languages


def sanity_table(results: Results, unit: Unit) -> str:
    """The share of each trial's hypotheses that failed each check; empty where no trial was checked."""
    shares = [point.measurement.sanity for point in results.points]
    shares += [trial.measurement.sanity for trial in results.dropped]
    checks = list(dict.fromkeys(check for of_trial in shares for check in of_trial))
    if not checks:
        return ""
    names = [("Trial", "number"), ("Candidate", ""), (unit.name, "number")]
    names += [(check.replace("_", " ").capitalize(), "number") for check in checks]
    baseline = results.baseline
    usual = baseline.measurement.sanity if baseline else {}
    trials: list[Point | Dropped] = sorted([*results.points, *results.dropped], key=lambda trial: trial.record.number)
    return table(
        head(names, sortable=True), [_sanity_row(trial, checks, usual, unit) for trial in trials], "sortable sanity"
    )


def sanity_note(results: Results, data: DataSet) -> str:
    """What the sanity table shows, and what its checks can't tell on this data."""
    note = (
        "The share of hypotheses that fail each check, whatever their score. A trial whose share is over the limit, "
        "counted from the baseline's, is kept off the frontier."
    )
    usual = results.baseline.measurement.sanity if results.baseline else {}
    over = sum(bool(over_limits(point.measurement.sanity, usual)) for point in results.points)
    note += f" Here that is {pluralize(over, 'trial')}." if over else " Here every trial is within the limits."
    for check, targets in unchecked_languages(data.segments).items():
        note += f" {check.replace('_', ' ').capitalize()} is not checked for {', '.join(targets)}."
    return note


def _sanity_row(trial: Point | Dropped, checks: Sequence[str], usual: Mapping[str, float], unit: Unit) -> str:
    shares = trial.measurement.sanity
    reasons = trial.kept_off if isinstance(trial, Point) else (trial.why,)
    notes = "".join(f'<span class="note">{text(reason)}</span>' for reason in reasons)
    label = text(short_label(trial.record.candidate))
    cells = [
        number(str(trial.record.number), trial.record.number),
        cell(f"<details><summary>{label}</summary>{notes}</details>" if notes else label, style="steps"),
        number(f"{unit.of(trial.bytes):,.2f}", trial.bytes),
        *(_share_cell(check, shares.get(check), usual) for check in checks),
    ]
    return f'<tr data-digest="{text(trial.record.candidate.digest)}">{"".join(cells)}</tr>'


def _share_cell(check: str, share: float | None, usual: Mapping[str, float]) -> str:
    if share is None:
        return number("", None)
    over = bool(over_limits({check: share}, usual))
    return number(f"{share:.1%}", share, "warn" if over else "faint" if share == 0.0 else "")
