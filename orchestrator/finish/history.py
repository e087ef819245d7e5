"""A study over time, from its ledger alone: what was found, and what it took, after each trial that ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from orchestrator.ledger.records import Ledger, TrialRecord
from orchestrator.results.cost import SECONDS_AN_HOUR, gpu_seconds, wall_seconds
from orchestrator.results.findings import TrialFinding, finding_of
from orchestrator.results.picking import USUAL_SHARE
from orchestrator.statistics.hypervolume import GrowingFront
from search_spaces.outcome import Measurement
from workers.plan.evaluation_plan import RACED_SPLIT


class Moment(NamedTuple):
    """What a study had after so many trials."""

    trials: int
    """How many trials had ended on the data that the search selects on, failures too."""
    at: str
    """When the last of these ended: ISO 8601."""
    found: Mapping[str, float]
    """Name -> value."""


def history(ledger: Ledger) -> list[Moment]:
    """A moment for each trial on dev, in the order in which the ledger has them.

    `hypervolume`, from the moment that the baseline is there: of the qualities as measured, over natural log of bytes
    and kept share, above the study's floor. `ratio_at_99`: the baseline's bytes over those of the smallest that
    keeps 99 % of its quality on dev. `gpu_hours`: what trials held of GPUs, probes too; on a CPU `worker_hours`.
    """
    floor = float(ledger.header["spec"].get("floor") or 0.0)
    records = [record for record in ledger.trials if record.split == RACED_SPLIT]
    standing = _standing(records, floor)
    hours = _hours(ledger)
    return [
        Moment(number, record.ended, {**found, **took})
        for number, (record, found, took) in enumerate(zip(records, standing, hours, strict=True), start=1)
    ]


def _standing(records: Sequence[TrialRecord], floor: float) -> Iterator[dict[str, float]]:
    """What the frontier is worth after each trial; empty until the baseline is there."""
    baseline = _baseline(records)
    front = None if baseline is None else GrowingFront(baseline.loss, floor)
    begun = False
    for record in records:
        finding = finding_of(record.measurement)
        if front is None or baseline is None:
            yield {}
            continue
        begun = begun or not record.candidate.steps
        if finding is not None and finding.may_stand(baseline, floor):
            front.add(finding.loss)
        smallest = front.smallest(USUAL_SHARE)
        found = {"hypervolume": front.hypervolume}
        if smallest is not None:
            found["ratio_at_99"] = baseline.loss.bytes / smallest.bytes
        yield found if begun else {}


def _baseline(records: Sequence[TrialRecord]) -> TrialFinding | None:
    found = (finding_of(record.measurement) for record in records if not record.candidate.steps)
    return next((finding for finding in found if finding is not None and not finding.raced), None)


def _hours(ledger: Ledger) -> Iterator[dict[str, float]]:
    """What all trials took until each trial on dev had ended, counted as a study's cost is; empty where no trial says
    what it ran on."""
    on_something = any(
        isinstance(one.outcome, Measurement) and "device" in one.outcome.conditions for one in ledger.trials
    )
    each, name = gpu_seconds(ledger.trials, ledger.header["spec"].get("gpus_per_trial")), "gpu_hours"
    if not any(each):
        each, name = [wall_seconds(record) for record in ledger.trials], "worker_hours"
    seconds = 0.0
    for record, spent in zip(ledger.trials, each, strict=True):
        seconds += spent
        if record.split == RACED_SPLIT:
            yield {name: seconds / SECONDS_AN_HOUR} if on_something else {}
