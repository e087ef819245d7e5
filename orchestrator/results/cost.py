"""What a study cost: hours of GPUs, or of workers where there are none, and seconds by stage, from its ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from orchestrator.ledger.records import TrialRecord
from search_spaces.outcome import Failure, Measurement, Probe, Speed

SECONDS_AN_HOUR = 3600.0
FAILED = "trials that failed"
TIMED = "time the speed"
BETWEEN = "between stages"
# Of all seconds, what may lie between the stages without being told.
LITTLE = 0.005


@dataclass(frozen=True, slots=True)
class Cost:
    """gpu_hours: 0 where no trial held a GPU. worker_hours: of all trials, on whatever they ran."""

    gpu_hours: float
    worker_hours: float
    trials: int
    stages: Mapping[str, float] = field(default_factory=dict)
    """Stage -> seconds, in the order in which a trial goes through them."""
    splits: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    """Split -> its trials, and their seconds."""


def cost_of(records: Sequence[TrialRecord], share: float | None = None) -> Cost:
    """What these trials took. share: of a GPU a trial, where several share one.

    A trial that was tried again counts from the start of its last attempt, as the ledger does.
    """
    seconds = [wall_seconds(record) for record in records]
    splits: dict[str, tuple[int, float]] = {}
    for record, spent in zip(records, seconds, strict=True):
        count, before = splits.get(record.split, (0, 0.0))
        splits[record.split] = (count + 1, before + spent)
    return Cost(
        gpu_hours=sum(gpu_seconds(records, share)) / SECONDS_AN_HOUR,
        worker_hours=sum(seconds) / SECONDS_AN_HOUR,
        trials=len(records),
        stages=_stages(records, seconds),
        splits=splits,
    )


def gpu_seconds(records: Sequence[TrialRecord], share: float | None = None) -> list[float]:
    """The seconds of GPUs that each trial took. share: as in `cost_of`. A trial that does not say what it ran on, such
    as one whose worker was lost, counts as many GPUs as most of the others held."""
    gpus = [gpus_of(record, share) for record in records]
    usual = Counter(count for count in gpus if count is not None).most_common(1)
    unknown = usual[0][0] if usual else 0.0
    return [
        (unknown if count is None else count) * wall_seconds(record)
        for count, record in zip(gpus, records, strict=True)
    ]


def wall_seconds(record: TrialRecord) -> float:
    """From the trial's start to its end."""
    began, ended = (datetime.fromisoformat(moment) for moment in (record.started, record.ended))
    return max((ended - began).total_seconds(), 0.0)


def gpus_of(record: TrialRecord, share: float | None = None) -> float | None:
    """How many GPUs the trial held: those that its worker names; else one where it was measured on a GPU, which another
    process then held; None where it says nothing of either. share: as in `cost_of`."""
    part = share if share is not None and 0 < share < 1 else 1.0
    _, _, named = record.worker.partition(":gpu")
    if named:
        return part * len(named.split(","))
    outcome = record.outcome
    device = outcome.conditions.get("device", "") if isinstance(outcome, (Measurement, Speed)) else ""
    if not device:
        return None
    if device.startswith("cpu"):
        return 0.0
    return share if share is not None and share > 0 else 1.0


def _stages(records: Sequence[TrialRecord], seconds: Sequence[float]) -> dict[str, float]:
    found: dict[str, float] = {}
    between = 0.0
    for record, spent in zip(records, seconds, strict=True):
        outcome = record.outcome
        if isinstance(outcome, (Measurement, Probe)):
            for stage, of_stage in outcome.seconds.items():
                found[stage] = found.get(stage, 0.0) + of_stage
            between += max(spent - sum(outcome.seconds.values()), 0.0)
    timed = sum(spent for record, spent in zip(records, seconds, strict=True) if isinstance(record.outcome, Speed))
    failed = sum(spent for record, spent in zip(records, seconds, strict=True) if isinstance(record.outcome, Failure))
    others = {TIMED: timed, FAILED: failed, BETWEEN: between}
    least = LITTLE * sum(seconds)
    return found | {name: spent for name, spent in others.items() if spent > least}
