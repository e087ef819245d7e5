"""`mtpareto bench study`: a whole search, timed, with the share of that time in which the GPU was busy."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from orchestrator.benches.results_file import write_results
from orchestrator.benches.watch import GpuSampler
from orchestrator.ledger.records import TrialRecord, read_ledger
from orchestrator.search.driver import run_search
from orchestrator.stopping.signals import RunningCommand
from orchestrator.study.spec import StudySpec


def bench_study(
    spec: StudySpec, output: Path, command: str, console: Console, work: RunningCommand | None = None
) -> dict[str, Any]:
    """Run the search and write `output` in the form of every results file; returns what was written."""
    start = time.perf_counter()
    with GpuSampler() as sampler:
        found = run_search(spec, console, work)
    seconds = time.perf_counter() - start
    ledger = read_ledger(found.folder)
    record = {
        "figures": figures(seconds, ledger.trials, sampler.samples),
        "conditions": {**conditions_of(ledger.trials), "asked": non_default_keys(spec), **ledger.header["conditions"]},
        "command": command,
    }
    write_results(output, record)
    return record


def figures(seconds: float, trials: Sequence[TrialRecord], busy: Sequence[float]) -> dict[str, float]:
    """The bench's figures, in seconds and shares.

    seconds: everything, from reading the data to the last page. seconds_a_trial: these over the trials, held-out ones
    included. trials_dropped: of the measured ones, those that a race ended early. seconds_working: from the first
    trial's beginning to the last one's end. gpu_busy_share: the mean of the samples over all of `seconds`.
    """
    measured = [trial for trial in trials if trial.measurement is not None]
    spans = [(datetime.fromisoformat(trial.started), datetime.fromisoformat(trial.ended)) for trial in trials]
    working = (max(end for _, end in spans) - min(begin for begin, _ in spans)).total_seconds() if spans else 0.0
    values = {
        "seconds": seconds,
        "trials": float(len(trials)),
        "trials_measured": float(len(measured)),
        "trials_dropped": float(sum(trial.measurement.race is not None for trial in measured if trial.measurement)),
        "seconds_a_trial": seconds / max(len(trials), 1),
        "seconds_working": working,
        "seconds_a_trial_working": working / max(len(trials), 1),
    }
    for stage in ("compress", "load", "translate", "score"):
        took = [trial.measurement.seconds.get(stage, 0.0) for trial in measured if trial.measurement is not None]
        values[f"mean_seconds_{stage}"] = sum(took) / max(len(took), 1)
    if busy:
        values["gpu_busy_share"] = sum(busy) / len(busy)
    return {name: round(value, 4) for name, value in values.items()}


def non_default_keys(spec: StudySpec) -> dict[str, Any]:
    """What of the study was asked for: every value that is not the default, as it was written."""
    record = spec.to_json()
    defaults = StudySpec(out=spec.out, data=spec.data).to_json()
    return {key: value for key, value in record.items() if key in ("out", "data") or value != defaults[key]}


def conditions_of(trials: Sequence[TrialRecord]) -> Mapping[str, str]:
    """What the first measured trial was measured under, and the date."""
    measurement = next((trial.measurement for trial in trials if trial.measurement is not None), None)
    taken = dict(measurement.conditions) if measurement else {}
    return {**taken, "date": datetime.now(UTC).date().isoformat()}
