"""What a run's ledger says of control arms: shares of both baselines, their intervals, and why there are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from rich.console import Console

from orchestrator.commands.rescore import rescore
from orchestrator.finish.run_folder import read_data, reopen, report_again
from orchestrator.finish.wrap_up import read_controls, read_results
from orchestrator.ledger.records import read_hypotheses, read_ledger
from orchestrator.results.control import ControlArms, TrainedPoint, best_trained
from orchestrator.results.intervals import interval_of, mean_over_pairs
from orchestrator.results.points import Results
from orchestrator.results.tables.terminal_table import control_lines
from search_spaces.methods.quantizers import RTN
from search_spaces.methods.registry import Step
from search_spaces.methods.trainers import Finetune, Recover
from tests.support.recorded_run import Made, write_data, write_run
from workers.scoring.metrics import corpus_statistics, resampled_scores

TRAINING = Finetune(tokens=1000, loss="references")
POINT: tuple[Step, ...] = (RTN(bits=4), TRAINING)
# The baseline lacks a tenth, the tuned baseline nothing, the point a twentieth.
DEV = [Made(10_000, 0.1, None), Made(4_000, 0.05, chain=POINT), Made(3_000, 0.3, 3)]
ARM = Made(10_000, 0.0, chain=(TRAINING,), split="control")
HELD_OUT = [
    Made(10_000, 0.1, None, split="test"),
    Made(4_000, 0.05, chain=POINT, split="test"),
    Made(10_000, 0.0, chain=(TRAINING,), split="control_test"),
]


def run_of(folder: Path, trials: list[Made], **spec: Any) -> Path:
    data = {"dev": write_data(folder / "dev.jsonl"), "test": write_data(folder / "test.jsonl", seed=1)}
    return write_run(folder / "run", data, trials, test=str(folder / "test.jsonl"), speed=False, **spec)


def read(run: Path) -> tuple[ControlArms, Results, Results | None]:
    ledger, spec = reopen(run)
    data = read_data(spec)
    dev, test = read_results(ledger, spec, data)
    return read_controls(ledger, spec, data, dev, test), dev, test


def test_shares_of_both_baselines_are_of_the_held_out_data_with_paired_intervals(tmp_path: Path) -> None:
    run = run_of(tmp_path, [*DEV, ARM, *HELD_OUT])
    controls, _, test = read(run)
    (arm,) = controls.arms
    assert test is not None and test.baseline is not None and arm.tuned is not None and arm.of_untouched is not None
    assert arm.split == "test" and arm.record.candidate.steps == (TRAINING,)
    assert (
        arm.of_untouched.share == pytest.approx(arm.tuned.quality / test.baseline.quality)
        and arm.of_untouched.share > 1
    )
    (one,) = arm.compared
    judged = next(point for point in test.points if point.steps)
    assert one.number == 1 and one.point.bytes == 4_000
    assert one.of_untouched.share == pytest.approx(judged.quality / test.baseline.quality)
    assert one.of_tuned.share == pytest.approx(judged.quality / arm.tuned.quality)
    assert one.of_tuned.share < 1 < one.of_untouched.share, "what was kept was tuned further"

    # The interval anew, from the hypotheses on disk.
    ledger, spec = reopen(run)
    segments = read_data(spec)["test"].segments
    samples = [
        mean_over_pairs(
            resampled_scores("chrf", segments, corpus_statistics("chrf", segments, read_hypotheses(run, record)), 0)
        )
        for split, steps in (("test", POINT), ("control_test", (TRAINING,)))
        for record in ledger.on(split)
        if record.candidate.steps == steps
    ]
    difference = interval_of(samples[0] - samples[1])
    interval = one.of_tuned.interval
    assert interval is not None
    assert interval.low == pytest.approx(1 + difference.low / arm.tuned.quality)
    assert interval.high == pytest.approx(1 + difference.high / arm.tuned.quality)
    assert not np.isclose(interval.low, interval.high)


def test_without_a_held_out_score_it_is_dev_that_compares(tmp_path: Path) -> None:
    controls, dev, _ = read(run_of(tmp_path, [*DEV, ARM]))
    (arm,) = controls.arms
    assert arm.split == "dev" and arm.tuned is not None and dev.baseline is not None
    assert [one.number for one in arm.compared] == [1]


def test_an_arm_is_no_trial_no_point_and_no_pick_and_is_counted_in_the_cost(tmp_path: Path) -> None:
    run = run_of(tmp_path, [*DEV, ARM, *HELD_OUT])
    without = run_of(tmp_path / "without", [*DEV, *HELD_OUT[:2]]) if (tmp_path / "without").mkdir() is None else run
    controls, dev, test = read(run)
    _, same, same_test = read(without)
    assert [point.record.candidate for point in dev.shown] == [point.record.candidate for point in same.shown]
    assert test is not None and same_test is not None and len(test.points) == len(same_test.points) == 2
    assert controls.cost is not None and controls.cost.trials == 2
    assert controls.cost.worker_hours * 3600 == pytest.approx(18.0)
    # On held-out data it bears its own number, as candidates do.
    ledger = read_ledger(run)
    assert [one.number for one in ledger.on("control")] == [one.number for one in ledger.on("control_test")] == [3]


@pytest.mark.parametrize(
    ("trials", "spec", "why"),
    [
        (DEV[:1] + DEV[2:], {}, ""),
        (DEV, {"control_arms": 0}, "the study asked for no control arm (control_arms: 0)"),
        (DEV, {}, "the study is older; mtpareto resume makes it"),
        (DEV, {"gpu_hours": 2.0}, "the study was out of hours; mtpareto resume makes it"),
        (
            [DEV[0], Made(4_000, 0.05, chain=(RTN(bits=4), Recover(adapter="scales")))],
            {},
            "nothing that trained here has a control: what was trained are scales, which only packed weights have",
        ),
    ],
)
def test_why_there_is_none_is_said(tmp_path: Path, trials: list[Made], spec: dict[str, Any], why: str) -> None:
    controls, _, _ = read(run_of(tmp_path, trials, **spec))
    assert (controls.arms, controls.why) == ((), why)
    assert control_lines(controls) == ([f"control   none: {why}"] if why else [])


def test_what_the_search_measured_itself_is_the_arm(tmp_path: Path) -> None:
    tuned = Made(10_000, 0.0, chain=(TRAINING,))
    controls, _, _ = read(run_of(tmp_path, [*DEV, tuned, *HELD_OUT]))
    (arm,) = controls.arms
    assert (arm.record.split, arm.record.number, arm.split) == ("dev", 3, "test")


def test_the_best_is_the_smallest_at_99_percent_else_the_best_quality() -> None:
    def point(bits: int, kept: float, size: int, tokens: int) -> TrainedPoint:
        return TrainedPoint((RTN(bits=bits), Finetune(tokens=tokens, loss="references")), kept, size)

    points = [point(8, 1.01, 900, 1), point(4, 0.991, 500, 2), point(3, 0.97, 300, 3), point(2, 0.98, 200, 4)]
    assert [one.steps[0].tokens for one in best_trained(points, 9)] == [2, 1, 4, 3]  # type: ignore[attr-defined]
    assert best_trained(points, 1)[0].steps == (Finetune(tokens=2, loss="references"),)
    assert best_trained([*points, point(3, 0.995, 400, 1)], 2)[0].bytes == 400, "one training has one arm"
    assert best_trained(points, 0) == []


def test_the_pages_mlflow_and_rescoring_have_it(tmp_path: Path, mlflow_store: Path) -> None:
    run = run_of(tmp_path, [*DEV, ARM, *HELD_OUT])
    said = Console(record=True, width=200)
    report_again(run, said)
    assert "on the uncompressed model has" in said.export_text()
    html = (run / "report.html").read_text("utf-8")
    assert 'id="control"' in html and "Of the tuned model" in html and "finetune 1k" in html

    client = MlflowClient(f"sqlite:///{mlflow_store}")
    experiment = client.get_experiment_by_name("mtpareto").experiment_id
    arms = client.search_runs([experiment], "tags.control = 'true'")
    assert {one.data.tags["split"] for one in arms} == {"control", "control_test"}
    for one in arms:
        name = f"{one.data.tags['split']}_chrf_kept_percent"
        assert one.data.metrics[name] > 100 and "on_frontier" not in one.data.metrics
        assert len(one.inputs.dataset_inputs) == 1
    assert len(client.search_runs([experiment], "tags.split = 'dev'")) == 3

    lines: list[str] = []
    rescore(run, ["ter"], lines.append)
    assert sum("on control" in line for line in lines) == 2
    controls, _, _ = read(run)
    assert controls.arms[0].tuned is not None and "ter" in controls.arms[0].tuned.measurement.scores
