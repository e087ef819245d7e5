"""What goes wrong while a step trains: a loss that is no number, too little memory, a full disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.tiny_training import Recomputing, TinyLearner, tiny_pairs, tiny_task, weights
from workers.checkpoints.tensor_files import write_tensors
from workers.failures.table import as_failure, is_transient, whose_fault
from workers.failures.training import DiskFull, TrainingDiverged
from workers.training.data.tokenized_pairs import TokenizedPairs
from workers.training.loop import checkpoints
from workers.training.loop.checkpoints import find_checkpoints
from workers.training.loop.device_engine import DeviceEngine
from workers.training.loop.one_device import train


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> TokenizedPairs:
    return tiny_pairs(tmp_path_factory.mktemp("pairs"))


def test_a_loss_that_is_no_number_goes_back_once_with_half_the_rate(pairs: TokenizedPairs, tmp_path: Path) -> None:
    learner = TinyLearner(spoil=lambda call: call == 13)
    done = train(tiny_task(learner, pairs, tmp_path))
    assert done.tokens >= 2000
    assert done.notes == (
        "the loss or its gradient was not finite by step 13: went back to step 10 with half the rate, 0.005 at its "
        "peak",
    )
    assert learner.calls == done.steps + 3
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights(learner).values())
    assert find_checkpoints(tmp_path)[-1].standing.rate_factor == 0.5


def test_going_back_is_to_the_beginning_where_no_step_was_kept(pairs: TokenizedPairs, tmp_path: Path) -> None:
    halved = TinyLearner(spoil=lambda call: call == 3)
    train(tiny_task(halved, pairs, tmp_path / "spoilt"))
    plain = TinyLearner()
    train(tiny_task(plain, pairs, tmp_path / "plain", rate=5e-3))
    assert all(torch.equal(one, weights(plain)[name]) for name, one in weights(halved).items())


def test_what_is_looked_at_some_steps_later_is_not_applied_meanwhile(
    pairs: TokenizedPairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = TinyLearner()
    train(tiny_task(every, pairs, tmp_path / "every"))

    def seldom(engine: DeviceEngine, steps: int) -> bool:
        return steps % 4 == 0

    # As on a GPU, which is looked at about once a second.
    monkeypatch.setattr(DeviceEngine, "look_is_due", seldom)
    later = TinyLearner()
    train(tiny_task(later, pairs, tmp_path / "later"))
    assert all(torch.equal(one, weights(later)[name]) for name, one in weights(every).items())
    spoilt = TinyLearner(spoil=lambda call: call == 13)
    done = train(tiny_task(spoilt, pairs, tmp_path / "spoilt"))
    assert done.notes[0].startswith("the loss or its gradient was not finite by step 16: went back to step 8 ")
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights(spoilt).values())


def test_a_second_loss_that_is_no_number_is_a_failure_and_not_tried_again(
    pairs: TokenizedPairs, tmp_path: Path
) -> None:
    with pytest.raises(TrainingDiverged, match=r"second time, at step 11 .* peak rate of 0\.005") as caught:
        train(tiny_task(TinyLearner(spoil=lambda call: call in (8, 14)), pairs, tmp_path))
    assert not is_transient(caught.value)
    failure = as_failure(caught.value, "compress")
    assert failure.reason == "not_finite"
    assert failure.message == f"TrainingDiverged: {caught.value}"


def test_the_second_time_counts_across_a_restart(pairs: TokenizedPairs, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def spoil(call: int) -> bool:
        if call == 20:
            raise Killed
        return call == 8

    with pytest.raises(Killed):
        train(tiny_task(TinyLearner(spoil=spoil), pairs, tmp_path))
    with pytest.raises(TrainingDiverged):
        train(tiny_task(TinyLearner(spoil=lambda call: call == 2), pairs, tmp_path))


@pytest.mark.parametrize("limit", [60, 100])
def test_too_little_memory_makes_micro_batches_smaller_and_the_steps_stay(
    pairs: TokenizedPairs, tmp_path: Path, limit: int
) -> None:
    learner = TinyLearner(limit=limit)
    done = train(tiny_task(learner, pairs, tmp_path / "short"))
    assert max(learner.sizes[-10:]) <= limit
    assert done.notes[0].startswith("out of memory at step 0 with a micro-batch of ")
    held = find_checkpoints(tmp_path / "short")[-1].standing.micro_tokens
    assert done.notes[-1].endswith(f"micro-batches of {held} tokens, the steps as they were")
    small = TinyLearner()
    again = train(tiny_task(small, pairs, tmp_path / "small", micro_tokens=held))
    assert (again.tokens, again.steps, again.notes) == (done.tokens, done.steps, ())
    assert all(torch.equal(one, weights(small)[name]) for name, one in weights(learner).items())


def test_activations_are_computed_again_before_micro_batches_get_smaller(pairs: TokenizedPairs, tmp_path: Path) -> None:
    learner = Recomputing(limit=60)
    done = train(tiny_task(learner, pairs, tmp_path))
    assert learner.asked == 1
    assert done.notes[0].endswith("activations are computed again in the backward pass")
    assert all("micro-batches of" in note for note in done.notes[1:])
    assert find_checkpoints(tmp_path)[-1].standing.recomputing
    resumed = Recomputing(limit=60)
    train(tiny_task(resumed, pairs, tmp_path, tokens=3000))
    assert resumed.asked == 1
    assert max(resumed.sizes) <= 120


def test_too_little_memory_for_one_sequence_is_raised(pairs: TokenizedPairs, tmp_path: Path) -> None:
    with pytest.raises(MemoryError) as caught:
        train(tiny_task(TinyLearner(limit=5), pairs, tmp_path))
    assert as_failure(caught.value, "compress").reason == "out_of_memory"


def test_torchs_own_words_for_too_little_memory_are_known() -> None:
    for error in (
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    ):
        assert as_failure(error, "compress").reason == "out_of_memory"
        assert not is_transient(error)


def test_another_error_of_the_learner_passes_through(pairs: TokenizedPairs, tmp_path: Path) -> None:
    class Broken(TinyLearner):
        def forward(self, batch: Any) -> Any:
            raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        train(tiny_task(Broken(), pairs, tmp_path))


class Disk:
    """Room for so many checkpoints; the next one finds half the room it needs."""

    def __init__(self, room: int) -> None:
        self.room = room

    def write(self, file: Path, tensors: Any) -> None:
        self.room -= 1
        if self.room >= 0:
            write_tensors(file, tensors)
            return
        file.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_says_where_and_how_much_and_what_was_kept_stays(
    pairs: TokenizedPairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "checkpoints"
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write_tensors", Disk(3).write)
        with pytest.raises(DiskFull) as caught:
            train(tiny_task(TinyLearner(), pairs, folder))
    said = str(caught.value)
    assert str(folder) in said and "--store" in said
    kept = find_checkpoints(folder)
    assert [one.standing.steps for one in kept] == [5, 10]
    size = kept[-1].tensors.stat().st_size
    assert f"a checkpoint of {size} bytes" in said
    assert not list(folder.glob(".draft-*"))
    rule = whose_fault(caught.value)
    assert (rule.whose, rule.room) == ("machine", True)
    resumed, whole = TinyLearner(), TinyLearner()
    train(tiny_task(resumed, pairs, folder))
    train(tiny_task(whole, pairs, tmp_path / "whole"))
    assert all(torch.equal(one, weights(whole)[name]) for name, one in weights(resumed).items())


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="this system has no /dev/full")
def test_a_device_without_room_raises_what_a_full_disk_does(tmp_path: Path) -> None:
    (tmp_path / "file").symlink_to("/dev/full")
    with pytest.raises(OSError) as caught:
        write_tensors(tmp_path / "file", {"a": torch.zeros(1000)})
    assert caught.value.errno == errno.ENOSPC
