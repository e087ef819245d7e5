"""A study over time: what counts as found, from when on, and what it took."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.finish.history import history
from orchestrator.ledger.records import LedgerWriter, create_ledger, read_ledger
from search_spaces.methods.quantizers import GPTQ, RTN
from search_spaces.outcome import Failure, Measurement, Outcome, Probe
from tests.support.examples import measurement, trial


def on(device: str, outcome: Measurement) -> Measurement:
    return replace(outcome, conditions={"device": device})


def write(folder: Path, outcomes: list[tuple[Outcome, tuple[RTN | GPTQ, ...], str]], **spec: object) -> Path:
    create_ledger(folder, {"spec": spec, "data": {}, "base": {"name": "m"}, "conditions": {}})
    writer = LedgerWriter(str(folder))
    for number, (outcome, steps, split) in enumerate(outcomes):
        writer.append(trial(outcome, steps, number, split), [{"text": "x"}] * 2)
    return folder


def test_only_what_may_stand_counts_and_nothing_does_before_the_baseline(tmp_path: Path) -> None:
    failing = replace(measurement(50.0, 10), sanity={"empty": 0.5})
    below = measurement(20.0, 20)
    folder = write(
        tmp_path / "run",
        [
            (on("cpu (2 threads)", measurement(50.0, 500)), (RTN(bits=4),), "dev"),
            (on("cpu (2 threads)", measurement(50.0, 1000)), (), "dev"),
            (failing, (RTN(bits=3),), "dev"),
            (below, (RTN(bits=2),), "dev"),
            (Failure("unsupported", "compress", "no"), (RTN(bits=8),), "dev"),
            (measurement(49.6, 100), (GPTQ(bits=4),), "dev"),
            (measurement(49.6, 100), (GPTQ(bits=4),), "test"),
        ],
        floor=0.5,
    )
    found = [moment.found for moment in history(read_ledger(folder))]
    assert [one.get("ratio_at_99") for one in found] == [None, 2.0, 2.0, 2.0, 2.0, 10.0]
    volumes = [one.get("hypervolume") for one in found]
    assert volumes[0] is None and len(set(volumes[1:5])) == 1 and volumes[5] > volumes[4]  # type: ignore[operator]
    assert [moment.trials for moment in history(read_ledger(folder))] == [1, 2, 3, 4, 5, 6]


def test_what_a_probe_held_counts_and_so_does_a_share_of_a_gpu(tmp_path: Path) -> None:
    probe = Probe({"en-de": 0.5}, 900, {"compress": 4.0})
    outcomes = [
        (on("NVIDIA H200", measurement(50.0)), (), "dev"),
        (probe, (GPTQ(bits=3),), "profile"),
        (on("NVIDIA H200", measurement(50.0)), (RTN(bits=4),), "dev"),
    ]
    whole = history(read_ledger(write(tmp_path / "whole", outcomes)))  # type: ignore[arg-type]
    assert [moment.found["gpu_hours"] * 3600 for moment in whole] == pytest.approx([9.0, 27.0])
    half = history(read_ledger(write(tmp_path / "half", outcomes, gpus_per_trial=0.5)))  # type: ignore[arg-type]
    assert [moment.found["gpu_hours"] * 3600 for moment in half] == pytest.approx([4.5, 13.5])


def test_a_cpus_hours_are_its_workers(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", [(on("cpu (2 threads)", measurement(50.0)), (), "dev")])
    (moment,) = history(read_ledger(folder))
    assert moment.found["worker_hours"] * 3600 == pytest.approx(9.0) and "gpu_hours" not in moment.found


def test_without_a_measurement_nothing_is_said(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", [(Failure("unsupported", "compress", "no"), (), "dev")])
    assert [dict(moment.found) for moment in history(read_ledger(folder))] == [{}]
