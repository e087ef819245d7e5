"""What a study cost: hours of GPUs or of workers, and seconds by stage."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.ledger.records import TrialRecord, record_from_json
from orchestrator.results.cost import BETWEEN, FAILED, TIMED, cost_of, gpus_of
from search_spaces.outcome import Failure, Outcome, Speed
from tests.support.examples import measurement, trial


def record(outcome: Outcome, worker: str, seconds: int = 36, split: str = "dev") -> TrialRecord:
    line = {**trial(outcome, (), 0, split), "kind": "trial", "digest": "0", "hypotheses": None}
    ended = f"2026-01-01T00:00:{seconds:02d}+00:00"
    return replace(record_from_json(line), worker=worker, ended=ended)  # type: ignore[arg-type]


def test_gpu_hours_count_what_each_worker_held() -> None:
    one, two = record(measurement(), "host:1:gpu0"), record(measurement(), "host:2:gpu0,1")
    cost = cost_of([one, two])
    assert cost.gpu_hours == pytest.approx(3 * 0.01) and cost.worker_hours == pytest.approx(2 * 0.01)
    assert cost_of([one, one], share=0.5).gpu_hours == pytest.approx(0.01), "two trials shared a GPU"


def test_a_cpu_costs_worker_hours_and_no_gpu() -> None:
    cost = cost_of([record(measurement(), "host:1"), record(Failure("error", "load", "x"), "host:1")])
    assert (cost.gpu_hours, cost.trials) == (0.0, 2) and cost.worker_hours == pytest.approx(0.02)
    assert cost_of([]).worker_hours == 0.0


def test_a_trial_whose_worker_was_lost_counts_as_the_others_did() -> None:
    lost = record(Failure("lost", "worker", "gone"), "")
    assert cost_of([record(measurement(), "host:1:gpu3"), lost]).gpu_hours == pytest.approx(0.02)


def test_a_gpu_that_another_process_held_is_counted_once() -> None:
    on_gpu = replace(measurement(), conditions={"device": "NVIDIA H200"})
    assert gpus_of(record(on_gpu, "host:1")) == 1.0
    assert gpus_of(record(replace(on_gpu, conditions={"device": "cpu (2 threads)"}), "host:1")) == 0.0


def test_seconds_are_summed_by_stage_and_what_is_left_is_named() -> None:
    records = [
        record(replace(measurement(), seconds={"load": 10.0, "translate": 20.0}), "h:1"),
        record(replace(measurement(), seconds={"translate": 30.0}), "h:1", split="test"),
        record(Speed(reason="no kernel"), "h:1", 5, "speed"),
        record(Failure("error", "load", "x"), "h:1", 7),
    ]
    cost = cost_of(records)
    assert cost.stages == {"load": 10.0, "translate": 50.0, TIMED: 5.0, FAILED: 7.0, BETWEEN: 12.0}
    assert cost.splits == {"dev": (2, 43.0), "test": (1, 36.0), "speed": (1, 5.0)}
    assert sum(cost.stages.values()) == pytest.approx(3600 * cost.worker_hours)
