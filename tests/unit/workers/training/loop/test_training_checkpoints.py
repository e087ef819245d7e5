"""Checkpoints of a training: whole or not there, which a budget goes on from, and which stay."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.support.tiny_training import TinyLearner, tiny_pairs, tiny_task
from workers.checkpoints.tensor_files import bytes_of, read_tensors, write_tensors
from workers.runtime.training_progress import CurvePoint
from workers.training.loop.checkpoints import (
    DRAFT_SECONDS,
    STANDING,
    TENSORS,
    TrainingState,
    find_checkpoints,
    newest,
    remove_old_drafts,
    superseded,
    usable,
    write,
)
from workers.training.loop.one_device import train
from workers.training.loop.optimizer import adamw, apply_gradients, restore, tensors_of, trainable

MOMENTS = {"weight:a": torch.arange(6.0).reshape(2, 3), "exp_avg:a": torch.ones(2, 3)}


def standing(steps: int, decaying: int = 0, each: int = 100) -> TrainingState:
    return TrainingState(
        steps=steps, tokens=steps * each, before_last=max(steps - 1, 0) * each, decaying=decaying, micro_tokens=64
    )


def test_tensors_are_written_as_safetensors_of_any_float_type_and_shape(tmp_path: Path) -> None:
    tensors = {
        "odd": torch.randn(3).to(torch.bfloat16),
        "scalar": torch.tensor(2.0),
        "matrix": torch.randn(4, 5),
        "turned": torch.randn(4, 5).T,
        "empty": torch.zeros(0, 3),
        "wide": torch.randn(2, dtype=torch.float64),
    }
    write_tensors(tmp_path / "file.safetensors", tensors)
    assert (tmp_path / "file.safetensors").stat().st_size == bytes_of(tensors)
    read = dict(read_tensors(tmp_path / "file.safetensors", torch.device("cpu")))
    library = load_file(tmp_path / "file.safetensors")
    for name, tensor in tensors.items():
        assert torch.equal(read[name], tensor) and torch.equal(library[name], tensor)
        assert read[name].dtype == tensor.dtype


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    kept = replace(
        standing(3),
        curve=(CurvePoint(0, None, 0.0, 31.5), CurvePoint(300, 2.5, 1000.0, None)),
        notes=("one",),
        rate_factor=0.5,
    )
    write(tmp_path, kept, MOMENTS)
    (only,) = find_checkpoints(tmp_path)
    assert only.standing == kept
    assert torch.equal(dict(read_tensors(only.tensors, torch.device("cpu")))["weight:a"], MOMENTS["weight:a"])
    assert not list(tmp_path.glob(".draft-*"))


def test_a_checkpoint_written_again_takes_the_place_of_the_first(tmp_path: Path) -> None:
    write(tmp_path, standing(3), MOMENTS)
    write(tmp_path, replace(standing(3), rate_factor=0.5), MOMENTS)
    assert [one.standing.rate_factor for one in find_checkpoints(tmp_path)] == [0.5]
    assert len(list(tmp_path.iterdir())) == 1


def test_what_is_not_whole_is_passed_over(tmp_path: Path) -> None:
    folders = [write(tmp_path, standing(steps), MOMENTS).folder for steps in (1, 2, 3, 4)]
    os.truncate(folders[3] / TENSORS, 10)
    text = (folders[2] / STANDING).read_text()
    (folders[2] / STANDING).write_text(text[: len(text) // 2])
    (folders[1] / TENSORS).unlink()
    assert [one.standing.steps for one in find_checkpoints(tmp_path)] == [1]


def test_only_drafts_that_nobody_touches_are_removed(tmp_path: Path) -> None:
    for name in (".draft-old", ".draft-new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / TENSORS).write_bytes(b"half")
    now = (tmp_path / ".draft-new").stat().st_mtime
    for path in (tmp_path / ".draft-old" / TENSORS, tmp_path / ".draft-old"):
        os.utime(path, (now - 2 * DRAFT_SECONDS,) * 2)
    remove_old_drafts(tmp_path, now)
    assert [path.name for path in tmp_path.iterdir()] == [".draft-new"]


def test_a_budget_goes_on_from_steps_whose_rate_it_shares() -> None:
    assert usable(standing(0), "wsd", 1)
    assert usable(standing(8), "wsd", 1000)
    # The ninth step began at 800 of 1000 tokens, where the rate still stays; the tenth would have fallen.
    assert usable(standing(9), "wsd", 1000) and not usable(standing(10), "wsd", 1000)
    assert usable(standing(10, decaying=1000), "wsd", 1000)
    assert not usable(standing(10, decaying=1000), "wsd", 2000)
    assert usable(standing(10), "inverse_sqrt", 1000) and not usable(standing(11), "inverse_sqrt", 1000)


def test_a_step_advances_the_standing_and_the_first_of_a_decay_is_told_beforehand() -> None:
    now = standing(8)
    assert not now.decay_is_next("wsd", 1000)
    now = now.advanced("wsd", 1000, 90)
    assert (now.steps, now.tokens, now.before_last, now.decaying) == (9, 890, 800, 0)
    assert now.decay_is_next("wsd", 1000) and not now.decay_is_next("inverse_sqrt", 1000)
    falling = now.advanced("wsd", 1000, 60)
    assert (falling.steps, falling.tokens, falling.before_last, falling.decaying) == (10, 950, 890, 1000)
    assert not falling.decay_is_next("wsd", 1000)
    assert falling.advanced("wsd", 1000, 60).decaying == 1000
    assert now.advanced("inverse_sqrt", 1000, 200).decaying == 0
    assert all(usable(one, "wsd", 1000) for one in (now, falling))


def test_the_newest_is_of_most_steps_and_of_no_more_than_asked(tmp_path: Path) -> None:
    assert newest(tmp_path, "wsd", 1000) is None
    for one in (standing(8), standing(9), standing(10, decaying=1000), standing(15)):
        write(tmp_path, one, MOMENTS)
    for budget, steps in ((1000, 10), (4000, 15), (900, 8), (100, None)):
        chosen = newest(tmp_path, "wsd", budget)
        assert (chosen.standing.steps if chosen else None) == steps
    earlier = newest(tmp_path, "wsd", 4000, steps=14)
    assert earlier is not None and earlier.standing.steps == 9


def test_the_last_two_and_the_last_before_the_decay_stay(tmp_path: Path) -> None:
    others = [write(tmp_path, one, MOMENTS) for one in (standing(5, 500), standing(9, 3000), standing(29))]
    own = [standing(7), standing(8), *(standing(steps, 1000) for steps in (9, 10, 11))]
    mine = {write(tmp_path, one, MOMENTS).folder for one in own}
    gone = superseded(find_checkpoints(tmp_path), mine)
    assert [(one.standing.steps, one.standing.decaying) for one in gone] == [(5, 500), (7, 0), (9, 1000)]
    assert others[0].folder == gone[0].folder
    gone = superseded(find_checkpoints(tmp_path), mine, last=1)
    assert [one.standing.steps for one in gone] == [5, 7, 9, 10]


def test_a_folder_of_checkpoints_stays_small(tmp_path: Path) -> None:
    pairs = tiny_pairs(tmp_path)
    folder = tmp_path / "checkpoints"
    for budget in (1000, 2000, 3000):
        train(tiny_task(TinyLearner(), pairs, folder, tokens=budget, checkpoint_steps=1))
        kept = find_checkpoints(folder)
        steady = [one.standing.steps for one in kept if not one.standing.decaying]
        assert len(kept) <= 3 and len(steady) == 1
        assert any(one.standing.decaying == budget and one.standing.tokens >= budget for one in kept)
    assert sorted(path.name for path in kept[-1].folder.iterdir()) == [STANDING, TENSORS]
    assert json.loads((kept[-1].folder / STANDING).read_text())["standing"]["tokens"] >= 3000


def test_a_checkpoint_of_another_learner_is_refused() -> None:
    learner = TinyLearner()
    held = trainable(learner)
    optimizer = adamw(held, 0.0)
    tensors = tensors_of(held, optimizer)
    with pytest.raises(ValueError, match=r"lacks head\.bias"):
        restore(held, optimizer, [item for item in tensors.items() if item[0] != "weight:head.bias"])
    with pytest.raises(ValueError, match="trains none such"):
        restore(held, optimizer, [("weight:head.weight", torch.zeros(2, 2))])
    with pytest.raises(ValueError, match="trains none such"):
        restore(held, optimizer, [("weight:frozen", torch.zeros(3))])


def test_the_optimizer_goes_on_as_if_it_had_not_stopped() -> None:
    def steps(learner: TinyLearner, optimizer: torch.optim.AdamW, count: int) -> None:
        for _ in range(count):
            learner.head.weight.sum().square().backward()
            apply_gradients(optimizer, 0.1)

    one, other = TinyLearner(), TinyLearner()
    optimizers = [adamw(trainable(learner), 0.1) for learner in (one, other)]
    steps(one, optimizers[0], 5)
    steps(other, optimizers[1], 2)
    kept = {name: tensor.clone() for name, tensor in tensors_of(trainable(other), optimizers[1]).items()}
    steps(other, optimizers[1], 7)
    restore(trainable(other), optimizers[1], kept.items())
    steps(other, optimizers[1], 3)
    assert torch.equal(one.head.weight, other.head.weight)
