"""Which ZeRO stage a training gets, how an optimizer step is shared out, and what a failed start is told as."""

from __future__ import annotations

import errno
import math
import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ray.exceptions import ActorDiedError, NodeDiedError
from ray.train.v2.api.exceptions import ControllerError, PreemptionError

from orchestrator.cluster import join
from search_spaces.errors import StudyError
from tests.support.sharded_example import finetune, random_pairs
from workers.failures.table import whose_fault
from workers.runtime.training_progress import Trained
from workers.training.data.batches import micro_batches, micro_rows, padded_batch
from workers.training.data.sampling import choose_rows
from workers.training.zero import launch
from workers.training.zero.configs import STAGES, USABLE, Stage, bytes_needed, config_for, refuse_packed, stage_for
from workers.training.zero.engine import ShardedEngine
from workers.training.zero.launch import ShardedTraining, cause_of, train_sharded
from workers.training.zero.sharing import MicroBatchTooLarge, deal_rows, share_of

BILLION = 10**9


def test_less_is_sharded_only_as_long_as_it_fits() -> None:
    for parameters, processes in ((BILLION, 2), (7 * BILLION, 4), (13 * BILLION, 5)):
        for stage in STAGES:
            border = bytes_needed(stage, parameters, parameters, processes) / USABLE
            assert stage_for(parameters, parameters, border * 1.001, processes) == stage
            if stage < 3:
                assert stage_for(parameters, parameters, border * 0.999, processes) == stage + 1


def test_sixteen_bytes_a_parameter_and_two_more_where_gradients_are_added_up_in_float32() -> None:
    assert [bytes_needed(stage, 100, 100, 1) for stage in STAGES] == [1800.0] * 3
    assert [bytes_needed(stage, 100, 300, 4) for stage in STAGES] == [600 + 400 + 300, 600 + 100 + 300, 150 + 100 + 300]


def test_an_adapter_on_7b_needs_no_sharding_of_gradients_and_all_of_7b_does() -> None:
    assert stage_for(40_000_000, 7 * BILLION, 80e9, 2) == 1
    assert stage_for(7 * BILLION, 7 * BILLION, 80e9, 8) == 1
    assert stage_for(7 * BILLION, 7 * BILLION, 80e9, 4) == 2
    assert stage_for(13 * BILLION, 13 * BILLION, 80e9, 8) == 2
    assert stage_for(13 * BILLION, 13 * BILLION, 80e9, 5) == 3


def test_what_fits_nowhere_is_refused_with_the_ways_out() -> None:
    with pytest.raises(StudyError, match=r"63\.0 GB on each of 2 devices.*--training-gpus.*adapter"):
        stage_for(7 * BILLION, 7 * BILLION, 40e9, 2)


def test_a_live_teacher_is_whole_on_every_device_and_the_model_before_it_is_shared_out() -> None:
    assert bytes_needed(3, 100, 300, 4, teacher=300) == bytes_needed(3, 100, 300, 4) + 600
    assert stage_for(7 * BILLION, 7 * BILLION, 80e9, 8, teacher=7 * BILLION) == 2
    with pytest.raises(StudyError, match=r"first holds the whole model.*others: 96\.0 GB, and 90% of 80\.0 GB"):
        stage_for(24 * BILLION, 24 * BILLION, 80e9, 10)
    with pytest.raises(StudyError, match=r"first holds the whole model, 100,000,000 trained.*train an adapter"):
        stage_for(BILLION // 10, 70 * BILLION, 80e9, 8, teacher=70 * BILLION)


def test_packed_weights_are_never_sharded() -> None:
    needs_three = bytes_needed(3, BILLION, BILLION, 2) / USABLE * 1.01
    assert stage_for(BILLION, BILLION, needs_three, 2) == 3
    with pytest.raises(StudyError, match=r"these are packed.*3620"):
        stage_for(BILLION, BILLION, needs_three, 2, packed=True)
    with pytest.raises(StudyError, match="take stage 2"):
        refuse_packed(3, packed=True)
    for stage in STAGES[:2]:
        refuse_packed(stage, packed=True)
    refuse_packed(3, packed=False)


@pytest.mark.parametrize("stage", STAGES)
def test_shipped_configurations(stage: Stage) -> None:
    config = config_for(stage, bfloat16=True)
    assert config["zero_optimization"]["stage"] == stage
    assert config["gradient_clipping"] == 1.0 and config["zero_allow_untested_optimizer"]
    assert "offload_optimizer" not in config["zero_optimization"], "it compiles an optimizer of DeepSpeed's"
    assert config["bf16"] == {"enabled": True} and config["data_types"] == {"grad_accum_dtype": "fp32"}
    assert "bf16" not in config_for(stage, bfloat16=False)


def test_rows_are_dealt_once_each_and_evenly() -> None:
    lengths = [5, 30, 7, 22, 9, 9, 14]
    shares = deal_rows(list(range(7)), lengths, 3)
    assert sorted(row for share in shares for row in share) == list(range(7))
    assert shares == [[1, 2, 0], [3, 5], [6, 4]]


@pytest.mark.parametrize("processes", [1, 2, 5])
def test_every_process_has_as_many_micro_batches_and_together_they_are_the_step(tmp_path: Path, processes: int) -> None:
    pairs = random_pairs(tmp_path / "pairs")
    rows = [4, 9, 17, 33]
    lengths = [pairs.length(row) for row in rows]

    cut, made = partial(micro_rows, pairs, micro_tokens=40), partial(padded_batch, pairs)
    shares = [share_of(rank, processes, rows, pairs, cut, made) for rank in range(processes)]
    assert len({len(share.batches) for share in shares}) == 1
    assert {share.tokens for share in shares} == {sum(lengths)}
    counted = [batch for share in shares for batch in share.batches[: share.counted]]
    assert sorted(row for batch in counted for row in batch.rows) == rows
    assert {share.target_tokens for share in shares} == {sum(batch.target_tokens for batch in counted)}


class GroupError(Exception):
    """As Ray Train's error of a group of workers."""

    def __init__(self, failures: dict[int, Any]) -> None:
        super().__init__("training failed")
        self.worker_failures = failures


class Wrapped(Exception):
    """As Ray Train's wrapper of what a worker raised."""

    def __init__(self, inner: Exception) -> None:
        super().__init__(str(inner))
        self._base_exc = inner


class WorkerHealthCheckFailedError(Exception):
    """Named as Ray Train's."""


def test_what_a_process_raised_comes_out_and_a_lost_process_is_tried_again() -> None:
    refused, full = StudyError("no"), torch.cuda.OutOfMemoryError("full")
    assert cause_of(GroupError({1: Wrapped(refused)})) is refused
    assert cause_of(GroupError({0: Wrapped(RuntimeError("peer gone")), 1: Wrapped(full)})) is full
    lost = cause_of(GroupError({0: Wrapped(RuntimeError("peer gone")), 1: WorkerHealthCheckFailedError("died")}))
    assert isinstance(lost, ConnectionError) and "died" in str(lost)
    disk = OSError(errno.ENOSPC, "No space left on device")
    assert cause_of(GroupError({0: WorkerHealthCheckFailedError("died"), 1: Wrapped(disk)})) is disk
    # What poisons a process's context may be the candidate's own.
    assert whose_fault(lost).then == "candidate"
    odd = RuntimeError("controller")
    assert cause_of(odd) is odd and cause_of(ControllerError(odd)) is odd


def test_a_node_that_was_taken_away_is_a_lost_connection() -> None:
    info: Any = SimpleNamespace(preempted_ranks=[1])
    for error in (PreemptionError(info), ControllerError(ActorDiedError()), GroupError({0: NodeDiedError("gone")})):
        assert isinstance(cause_of(error), ConnectionError)


def training(tmp_path: Path, **changes: Any) -> ShardedTraining:
    return ShardedTraining(
        builder="tests.support.sharded_example:build", arguments={}, pairs=random_pairs(tmp_path / "pairs"),
        step=finetune(), seed=0, processes=2, trained=10, parameters=10, checkpoints=tmp_path, out=tmp_path,
        micro_tokens=1024, **{"packed": False, **changes},
    )  # fmt: skip


def test_out_of_memory_starts_again_with_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[ShardedTraining] = []

    def fitted(training: ShardedTraining, report: Any) -> Trained:
        started.append(training)
        if len(started) < 4:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return Trained(1, 1, (), training.notes, None, None)

    monkeypatch.setattr(launch, "_fitted", fitted)
    done = train_sharded(training(tmp_path), print)
    assert [(one.recompute, one.micro_tokens) for one in started] == [
        (False, 1024), (True, 1024), (True, 512), (True, 256),
    ]  # fmt: skip
    assert len(done.notes) == 3 and "256 tokens" in done.notes[-1]

    started.clear()
    with pytest.raises(torch.cuda.OutOfMemoryError):
        train_sharded(replace(training(tmp_path / "again"), recompute=True, micro_tokens=256), print)
    assert len(started) == 1


def test_a_micro_batch_that_was_too_large_is_halved_until_it_is_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    # The batches that memory does not suffice for, by start: (tokens with padding, sequences).
    too_large = [(900, 5), (190, 4), (60, 2)]

    def fitted(training: ShardedTraining, report: Any) -> Trained:
        started.append(training.micro_tokens)
        if len(started) <= len(too_large):
            raise pickle.loads(pickle.dumps(MicroBatchTooLarge(*too_large[len(started) - 1], "CUDA out of memory")))
        return Trained(1, 1, (), training.notes, None, None)

    monkeypatch.setattr(launch, "_fitted", fitted)
    done = train_sharded(training(tmp_path, recompute=True), print)
    assert started == [1024, 512, 128, 32]
    assert done.notes[-1] == "out of memory: micro-batches of 32 tokens, the steps as they were"

    started.clear()
    too_large[:] = [(900, 1)]
    with pytest.raises(MemoryError, match=r"no memory for a micro-batch of 900 tokens \(1 sequences\): CUDA out of"):
        train_sharded(training(tmp_path / "one", recompute=True), print)
    assert started == [1024]


def test_a_process_cuts_as_one_device_does_and_tells_which_micro_batch_was_too_large(tmp_path: Path) -> None:
    pairs = random_pairs(tmp_path / "pairs")
    task = SimpleNamespace(pairs=pairs, step=finetune(batch=20), seed=1, device=torch.device("cpu"), micro_tokens=400)
    run: Any = SimpleNamespace(task=task, most_targets=math.inf, speller=None, rank=0, processes=1, first=False)
    shares = []
    for run.fewest in (20, 400):
        shares.append(ShardedEngine._share(run, 0))
        assert [batch.rows for batch in shares[-1].batches] == [
            batch.rows for batch in micro_batches(pairs, choose_rows(pairs, 0, 20, 1), 400, run.fewest)
        ]
    assert len(shares[0].batches) > len(shares[1].batches)

    class NoMemory:
        """An engine whose device is full."""

        def __call__(self, batch: Any) -> Any:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

        def set_gradient_accumulation_boundary(self, last: bool) -> None: ...

    run.engine = NoMemory()
    with pytest.raises(MicroBatchTooLarge) as caught:
        ShardedEngine._backward(run, shares[1], 0)
    first = shares[1].batches[0]
    assert (caught.value.tokens, caught.value.sequences) == (first.ids.numel(), len(first.rows))


def test_at_stage_3_logits_are_made_in_one_piece_or_the_training_is_refused(tmp_path: Path) -> None:
    pairs = random_pairs(tmp_path / "pairs")
    task = SimpleNamespace(pairs=pairs, step=finetune(batch=20), seed=1, device=torch.device("cpu"), micro_tokens=400)
    longest = max(pairs.targets(row) for row in choose_rows(pairs, 0, 20, 1))
    run: Any = SimpleNamespace(
        task=task, most_targets=longest, fewest=400, speller=None, rank=0, processes=2, first=False
    )
    batches = ShardedEngine._share(run, 0).batches
    assert all(batch.target_tokens <= longest for batch in batches) and len(batches) > 1
    run.most_targets = longest - 1
    with pytest.raises(StudyError, match=f"a translation of {longest} tokens"):
        ShardedEngine._share(run, 0)


def test_stage_3_of_packed_weights_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="stage 3 can't train on packed"):
        train_sharded(training(tmp_path, stage=3, packed=True), print)


def nodes(*resources: dict[str, float]) -> list[dict[str, Any]]:
    return [{"Alive": True, "Resources": found} for found in resources]


def test_a_trial_that_trains_on_several_gpus_holds_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join.ray, "nodes", lambda: nodes({"CPU": 16, "GPU": 2}, {"CPU": 16, "GPU": 2}))
    alone, apart = join.place(None, None, None), join.place(None, None, None, training=4)
    assert alone.share is None and alone.group().required_resources["GPU"] == 1
    assert apart.share is not None and (apart.share.cpus, apart.share.gpus) == (8, 1)
    assert not {"CPU", "GPU"} & apart.group().required_resources.keys()
    assert apart.side_by_side == alone.side_by_side == 4


def test_more_gpus_than_there_are_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join.ray, "nodes", lambda: nodes({"CPU": 16, "GPU": 4}))
    assert join.place(None, None, None, training=4).apart
    with pytest.raises(StudyError, match=r"training_gpus is 5, and the cluster has 4 GPUs; give at most 4"):
        join.place(None, None, None, training=5)
    with pytest.raises(StudyError, match="COMET takes a part of one; give at most 3"):
        join.place(None, 0.5, None, training=4, taken=0.5)
    monkeypatch.setattr(join.ray, "nodes", lambda: nodes({"CPU": 2}))
    assert join.place(None, None, None, training=2, taken=0.5).apart
    with pytest.raises(StudyError, match="the cluster has 2 CPUs"):
        join.place(None, None, None, training=3)
