"""Distillation end to end: a smaller student of the bytes predicted, the same again, that goes on after a kill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from search_spaces.errors import CandidateError
from search_spaces.methods.pruners import RemoveLayers
from search_spaces.methods.trainers import Distill
from search_spaces.predicted_size import predicted_bytes
from tests.support.dense_reference import logits
from tests.support.trained_parents import FORMS, empty, made, training_context
from workers.checkpoints.model_files import bytes_on_disk, read_checkpoint
from workers.evaluation.methods import compress
from workers.loading.load import load_model
from workers.plan.compression_context import Report
from workers.training import engines
from workers.training import steps as one_step
from workers.training.loop import device_engine, optimizer
from workers.training.loop.learner import Learner
from workers.training.loop.one_device import Task
from workers.training.losses.layer_map import spread

WIDE = {"hidden_size": 128, "intermediate_size": 160, "num_hidden_layers": 3, "initializer_range": 0.3}
STUDENT = Distill(layers=2, width=0.5, channels=0.6, tokens=2400, batch=8, rate=3e-3, warm_up=1)


pytestmark = pytest.mark.usefixtures("short_translations")


@pytest.fixture(scope="module")
def teacher(save_llama: Any) -> Path:
    folder: Path = save_llama(**WIDE)
    return folder


def distilled(parent: Path, teacher: Path, scratch: Path, step: Distill) -> tuple[Path, Report]:
    scratch.mkdir(exist_ok=True)
    out = empty(scratch)
    return out, compress(parent, out, step, training_context(scratch, teacher))


@pytest.mark.parametrize(
    "step",
    [
        STUDENT,
        replace(STUDENT, hidden=0.5, width=1.0),
        replace(STUDENT, layers=0, hidden=0.5),
        replace(STUDENT, teacher="cached", loss="skew_kl", channels=1.0),
    ],
    ids=["narrow", "hidden states", "hidden states of another width", "cached"],
)
def test_a_student_takes_the_bytes_predicted_and_comes_out_the_same_again(
    teacher: Path, tmp_path: Path, step: Distill
) -> None:
    (first, report), (again, other) = (distilled(teacher, teacher, tmp_path / run, step) for run in ("one", "two"))
    stored = load_file(first / "model.safetensors")
    assert all(torch.equal(tensor, stored[name]) for name, tensor in load_file(again / "model.safetensors").items())
    assert report == other
    assert (
        report.changed
        == report.targeted
        == sum(tensor.parameters for tensor in read_checkpoint(first).tensors.values() if len(tensor.shape) == 2)
    )
    assert report.notes[0].startswith("student: ")
    assert "validation chrF" in report.notes[-1]
    losses = [point.loss for point in report.curve if point.loss is not None]
    assert min(losses) < losses[0]
    assert predicted_bytes(read_checkpoint(teacher), (step,)) == pytest.approx(bytes_on_disk(first), rel=0.005)
    assert not [path for path in first.iterdir() if path.is_dir()]
    assert logits(load_model(first, "cpu")).isfinite().all()


def test_a_killed_distillation_goes_on_from_its_checkpoint(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = distilled(teacher, teacher, tmp_path / "whole", STUDENT)
    taken: list[int] = []
    monkeypatch.setattr(engines, "Task", lambda **values: Task(**values, checkpoint_steps=2))
    apply = optimizer.apply_gradients

    def dies(*arguments: Any) -> Any:
        taken.append(1)
        if len(taken) == 4:
            raise KeyboardInterrupt
        return apply(*arguments)

    monkeypatch.setattr(device_engine, "apply_gradients", dies)
    with pytest.raises(KeyboardInterrupt):
        distilled(teacher, teacher, tmp_path / "killed", STUDENT)
    steps = len(taken)
    after, _ = distilled(teacher, teacher, tmp_path / "killed", STUDENT)
    # Two steps were on disk; they are not taken again.
    monkeypatch.setattr(device_engine, "apply_gradients", apply)
    assert steps == 4
    expected = load_file(whole / "model.safetensors")
    found = load_file(after / "model.safetensors")
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


def test_hidden_states_are_matched_with_the_layers_that_the_students_come_from(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps: list[Any] = []

    def noted(model: Any, step: Any, teacher: Any, layer_map: Any) -> Any:
        made = Learner(model, step, teacher, layer_map)
        maps.append(made._layer_map)
        return made

    monkeypatch.setattr(engines, "Learner", noted)
    step = replace(STUDENT, layers=2, width=1.0, channels=1.0, hidden=0.5, tokens=100)
    distilled(teacher, teacher, tmp_path / "same", step)
    (tmp_path / "shallow").mkdir()
    shallow = training_context(tmp_path / "shallow", teacher)
    pairs = list(one_step.training_pairs(teacher, step, shallow).held_out) * 8
    parent = made(teacher, tmp_path, RemoveLayers(count=1), context=replace(shallow, calibration=pairs))
    distilled(parent, teacher, tmp_path / "shallow", replace(step, layers=1))
    assert maps == [{0: 0, 1: 2}, spread(1, 3)]


def test_a_student_is_not_cut_out_of_packed_weights(teacher: Path, tmp_path: Path) -> None:
    packed = made(teacher, tmp_path, *FORMS["packed"])
    with pytest.raises(CandidateError, match="distill"):
        distilled(packed, teacher, tmp_path / "scratch", STUDENT)
