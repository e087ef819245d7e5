"""A sharded training on a Ray cluster: as many processes as asked, started together, each with a GPU where there are.

Who starts one must hold no GPU: all processes are placed at once or none is, so a caller with a GPU of its own could be
what they wait for, while it waits for them.
"""

from __future__ import annotations

import importlib
import os
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from search_spaces.methods.trainers import Trainer
from workers.failures.table import is_out_of_memory, is_transient, whose_fault
from workers.runtime.ray_process import has_gpus
from workers.runtime.torch_environment import prepare_torch, waiting
from workers.runtime.training_progress import Progress, Trained
from workers.training.data.batches import halve_micro_tokens
from workers.training.data.tokenized_pairs import TokenizedPairs
from workers.training.zero.configs import Stage, refuse_packed, stage_for
from workers.training.zero.sharing import MicroBatchTooLarge

RUNS = "ray-train"
FEWEST_MICRO_TOKENS = 256
# Processes of a group wait for each other for so long; the first step waits until all have built their learner.
TIMEOUT_SECONDS = 1800


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardedTraining:
    """What is trained, on what, and over how many processes; it travels to them."""

    builder: str
    """"module:function", called in each process as function(device, **arguments); it returns the learner."""
    arguments: Mapping[str, Any]
    """Plain values and paths."""
    pairs: TokenizedPairs
    step: Trainer
    """The method, with its budget and schedule."""
    seed: int
    processes: int
    trained: int
    """Parameters that are trained."""
    parameters: int
    """All of the learner's parameters."""
    packed: bool
    """Whether any of them are held in fewer bits."""
    checkpoints: Path
    """A folder that names everything but the budget, and that every node reaches."""
    out: Path
    """Where the trained tensors go; every node reaches it."""
    micro_tokens: int
    """Padded tokens a micro-batch."""
    teacher: int = 0
    """Parameters of a live teacher."""
    stage: Stage | None = None
    """Of ZeRO; None takes the lowest that fits."""
    recompute: bool = False
    """Whether activations are computed again in the backward pass."""
    notes: tuple[str, ...] = ()
    """What the trial's record says before the training's own notes."""


def train_sharded(training: ShardedTraining, report: Callable[[Progress], None]) -> Trained:
    """Train in processes of their own, and wait for them; `weights.load_trained` then reads `training.out`.

    After an end for want of memory they start again from the last checkpoint: with activations made again in the
    backward pass, then with micro-batches of half the size, or smaller than the one that was too large. Raises
    StudyError when no ZeRO stage fits, what a process raised, and ConnectionError when one was lost, so that another
    attempt goes on from the last checkpoint.
    """
    if training.stage is not None:
        refuse_packed(training.stage, training.packed)
    while True:
        try:
            return _fitted(training, report)
        except Exception as error:
            smaller = _smaller(training, error) if is_out_of_memory(error) else None
            if smaller is None:
                raise
            training = smaller


def _fitted(training: ShardedTraining, report: Callable[[Progress], None]) -> Trained:
    """One start of all processes, and their end."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError
    from ray.util.queue import Queue

    told = Queue(actor_options={"num_cpus": 0})
    trainer = TorchTrainer(
        _rank,
        train_loop_config={"training": training, "told": told},
        scaling_config=ScalingConfig(
            num_workers=training.processes, use_gpu=has_gpus(), resources_per_worker={"CPU": 1}
        ),
        torch_config=TorchConfig(timeout_s=TIMEOUT_SECONDS),
        run_config=RunConfig(
            name=uuid.uuid4().hex[:12],
            storage_path=str(training.checkpoints / RUNS),
            failure_config=FailureConfig(max_failures=0, max_preemption_failures=0),
            # Ray Train imports torch there before any line of ours runs.
            worker_runtime_env={"env_vars": waiting()},
        ),
    )
    ended: list[Any] = []

    def run() -> None:
        # In a thread, where Ray Train leaves the process's signals alone.
        try:
            ended.append(trainer.fit().return_value)
        except BaseException as error:
            ended.append(error)
        told.put(None)

    threading.Thread(target=run, name="sharded-training", daemon=True).start()
    while (progress := told.get()) is not None:
        report(progress)
    told.shutdown(force=True)
    (end,) = ended
    if isinstance(end, TrainingFailedError):
        raise cause_of(end) from end
    if isinstance(end, BaseException):
        raise end
    assert isinstance(end, Trained)
    return end


def cause_of(error: Any) -> BaseException:
    """What went wrong in the processes: the machine's fault in one, or a lost one, since the others then fail for want
    of it."""
    failures = getattr(error, "worker_failures", {})
    # Ray Train hands over what a process raised inside one of its own.
    raised: list[BaseException] = [getattr(failures[rank], "_base_exc", failures[rank]) for rank in sorted(failures)]
    # Without failures of its processes it failed in the one that watches over them, or its nodes were taken away.
    raised = raised or [getattr(error, "controller_failure", error)]
    if machines := [one for one in raised if whose_fault(one).whose == "machine"]:
        return machines[0]
    lost = [one for one in raised if type(one).__name__.startswith("WorkerHealthCheck") or is_transient(one)]
    if lost:
        return ConnectionError(f"a process of the sharded training was lost: {lost[0]}")
    return next((one for one in raised if is_out_of_memory(one)), raised[0])


def _smaller(training: ShardedTraining, error: BaseException) -> ShardedTraining | None:
    """What takes less memory and does the same steps; None when there is nothing left to try."""
    if not training.recompute:
        note = "out of memory: activations are computed again in the backward pass"
        return replace(training, recompute=True, notes=(*training.notes, note))
    if isinstance(error, MicroBatchTooLarge):
        if error.sequences == 1:
            return None
        fewer = halve_micro_tokens(training.micro_tokens, error.tokens)
    else:
        fewer = training.micro_tokens // 2
        if fewer < FEWEST_MICRO_TOKENS:
            return None
    note = f"out of memory: micro-batches of {fewer} tokens, the steps as they were"
    return replace(training, micro_tokens=fewer, notes=(*training.notes, note))


def _rank(config: dict[str, Any]) -> Trained:
    """What each process does; Ray Train has joined them into a group."""
    import ray.train.torch
    import torch

    from workers.training.zero.engine import RankTask, train_rank

    prepare_torch()
    training: ShardedTraining = config["training"]
    device = ray.train.torch.get_device()
    if device.type == "cuda":
        # Where DeepSpeed looks; Ray numbers devices by the GPUs that it gave the processes of this node.
        os.environ["LOCAL_RANK"] = str(device.index)
    stage = training.stage or stage_for(
        training.trained,
        training.parameters,
        gpu_bytes=_smallest_memory(device),
        processes=training.processes,
        packed=training.packed,
        teacher=training.teacher,
    )
    module, _, name = training.builder.partition(":")
    builder = getattr(importlib.import_module(module), name)
    note = f"trained by {training.processes} processes together, ZeRO stage {stage}"
    task = RankTask(
        build=lambda where: builder(where, **training.arguments),
        pairs=training.pairs,
        step=training.step,
        seed=training.seed,
        stage=stage,
        device=torch.device(device),
        checkpoints=training.checkpoints,
        out=training.out,
        report=config["told"].put,
        micro_tokens=training.micro_tokens,
        recompute=training.recompute,
        notes=(note, *training.notes),
    )
    return train_rank(task)


def _smallest_memory(device: Any) -> float:
    """Bytes of the smallest device of the group; of a CPU, an equal part of its node's memory. Collective."""
    import torch
    from torch import distributed

    if device.type == "cuda":
        own = torch.cuda.get_device_properties(device).total_memory
    else:
        own = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // int(os.environ["LOCAL_WORLD_SIZE"])
    smallest = torch.tensor([own], dtype=torch.int64, device=device)
    distributed.all_reduce(smallest, op=distributed.ReduceOp.MIN)
    return float(smallest)
