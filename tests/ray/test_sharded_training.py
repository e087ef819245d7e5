"""Sharded training: two processes train as one does, and a trial that starts them holds nothing that they wait for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.ray.conftest import Command, free_port, ledger_lines, trials
from tests.support.sharded_example import build, random_pairs, student
from tests.support.sharded_runs import PROCESSES, STEPS, process
from workers.plan.evaluation_plan import RACED_SPLIT
from workers.training.loop.one_device import Task, train
from workers.training.zero.weights import load_trained


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes wrote down what they did."""
    folder = tmp_path_factory.mktemp("sharded")
    random_pairs(folder / "pairs")
    torch.multiprocessing.spawn(process, args=(folder, free_port()), nprocs=PROCESSES)
    return folder


@pytest.fixture(scope="module")
def alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Loss -> the curve and the model of one process, by the training on one device."""
    found = {}
    for loss, step in STEPS.items():
        learner = build(torch.device("cpu"), step)
        trained = train(
            Task(
                learner=learner, pairs=random_pairs(tmp_path_factory.mktemp("again")), step=step, seed=3,
                device=torch.device("cpu"), checkpoints=tmp_path_factory.mktemp("alone"), held_out=None,
                report=lambda progress: None, micro_tokens=64,
            )
        )  # fmt: skip
        curve = {point.tokens: point.loss for point in trained.curve if point.loss is not None}
        found[loss] = (trained, curve, dict(learner.model.named_parameters()))
    return found


def told(folder: Path, name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return record


def weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    model = build(torch.device("cpu"), STEPS["references"]).model
    load_trained(model, folder / name)
    return dict(model.named_parameters())


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("loss", list(STEPS))
def test_two_processes_train_as_one_does(folder: Path, alone: dict[str, Any], loss: str, stage: int) -> None:
    trained, curve, by_one = alone[loss]
    record = told(folder, f"{loss}-{stage}")
    assert (record["tokens"], record["steps"]) == (trained.tokens, trained.steps)
    assert record["curve"][0] == {"tokens": 0, "loss": None, "tokens_s": 0.0, "chrf": None}
    sharded = {point["tokens"]: point["loss"] for point in record["curve"][1:]}
    assert sharded.keys() == curve.keys() and len(curve) > 5
    assert all(abs(sharded[tokens] - curve[tokens]) < 1e-4 for tokens in curve)
    begun = dict(student().named_parameters())
    for name, parameter in weights(folder, f"{loss}-{stage}").items():
        moved = (by_one[name] - begun[name]).norm()
        assert "norm" in name or moved > 0.01 * begun[name].norm()
        assert (parameter - by_one[name]).norm() <= 1e-3 * by_one[name].norm()


@pytest.mark.parametrize("stage", [2, 3])
def test_an_interrupted_training_goes_on_to_the_same_weights_and_a_larger_budget_from_before_its_decay(
    folder: Path, stage: int
) -> None:
    assert (folder / f"interrupted-{stage}-first-raised-1.txt").read_text().startswith("Interrupted")
    uninterrupted = weights(folder, f"references-{stage}")
    for name, parameter in weights(folder, f"interrupted-{stage}").items():
        assert torch.equal(parameter, uninterrupted[name])
    assert told(folder, f"interrupted-{stage}")["curve"][-1]["loss"] == pytest.approx(
        told(folder, f"references-{stage}")["curve"][-1]["loss"], abs=1e-6
    )
    taken = json.loads((folder / f"interrupted-{stage}-taken.json").read_text())
    steps = told(folder, f"interrupted-{stage}")["steps"]
    again = taken[6:]
    assert taken[:6] == [0, 1, 2, 3, 4, -1] and again[: steps - 3] == list(range(3, steps))
    # The last checkpoint before the decay, which began within the last fifth.
    assert 3 <= again[steps - 3] < steps and told(folder, f"interrupted-{stage}-more")["tokens"] >= 1300


def test_a_loss_that_is_not_finite_goes_back_once_at_half_the_rate_and_then_ends_every_process(folder: Path) -> None:
    assert "half the rate" in told(folder, "spoiled-once")["notes"][-1]
    for rank in range(PROCESSES):
        assert (folder / f"spoiled-raised-{rank}.txt").read_text().startswith("TrainingDiverged")


def test_every_process_says_that_the_disk_is_full(folder: Path) -> None:
    for rank in range(PROCESSES):
        assert "no room for a checkpoint" in (folder / f"full-raised-{rank}.txt").read_text()


def test_a_search_trains_over_two_processes_which_its_trials_start(
    runs: Path, small_data: Path, small_training: Path, here: Command
) -> None:
    step = {"method": "finetune", "tokens": 600, "batch": 8, "loss": "references", "rate": 1e-4}
    spec = {
        "out": str(runs / "run"), "space": "bit-width", "trials": 2, "max_new_tokens": 24, "speed": False,
        "data": str(small_data), "training": [str(small_training)], "training_gpus": 2, "keep": "none",
        "calibration_tokens": 2048, "control_arms": 0,
        "anchors": [[{"method": "rtn", "bits": 4}, step]],
    }  # fmt: skip
    (runs / "study.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    done = here("search", str(runs / "study.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr
    trained = [one for one in trials(runs / "run") if one["split"] == RACED_SPLIT][-1]["outcome"]
    assert trained["kind"] == "measurement", trained
    assert "trained by 2 processes together, ZeRO stage 1" in trained["notes"]
    (curve,) = trained["curves"]
    assert curve["step"].startswith("finetune(")
    tokens, losses, _, scores = zip(*curve["points"], strict=True)
    assert tokens[0] == 0 and tokens[-1] >= 600 and losses[0] is None and min(losses[1:]) > 0
    assert scores[0] is not None and scores[-1] is not None
    assert ledger_lines(runs / "run")[-1] == {"kind": "end", "complete": True}
