"""Checkpoints of a sharded training: DeepSpeed's files, and beside them where the training stands.

Each process writes its own shard, so a checkpoint is of one stage and one number of processes. DeepSpeed pickles them:
they are read from the store that this project wrote, and from nowhere else.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from workers.failures.training import disk_full
from workers.runtime.atomic_files import write_whole
from workers.training.loop.checkpoints import (
    STANDING,
    TrainingCheckpoint,
    TrainingState,
    file_name,
    newest_of,
    remove,
    state_of,
    superseded,
    usable,
)
from workers.training.loop.schedules import Schedule

# Master copy and two moments in float32, of what is trained, and the weights.
BYTES_A_PARAMETER = 16


def folder_of(checkpoints: Path, stage: int, processes: int) -> Path:
    """Where the checkpoints of this kind lie."""
    return checkpoints / f"zero{stage}-by-{processes}"


def save(engine: Any, folder: Path, standing: TrainingState) -> TrainingCheckpoint:
    """Write a checkpoint; collective. It counts once its standing is on the disk, which is written last.

    Raises DiskFull in every process, before anything is written, when it would find no room.
    """
    tag = file_name(standing)
    target = folder / tag
    first = distributed.get_rank() == 0
    if first:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
    distributed.barrier()
    _refuse_full_disk(engine, folder)
    engine.save_checkpoint(str(folder), tag=tag, save_latest=False, exclude_frozen_parameters=True)
    distributed.barrier()
    if first:
        _write_standing(target, standing)
    distributed.barrier()
    return TrainingCheckpoint(target, standing)


def load(engine: Any, checkpoint: TrainingCheckpoint) -> None:
    """Put the engine where the checkpoint was written; collective. Raises RuntimeError when DeepSpeed does not."""
    path, _ = engine.load_checkpoint(
        str(checkpoint.folder.parent), tag=checkpoint.folder.name, load_module_strict=False
    )
    if path is None:
        raise RuntimeError(f"DeepSpeed found no checkpoint in {checkpoint.folder}; remove the folder to begin anew")


def newest(folder: Path, schedule: Schedule, budget: int, steps: int | None = None) -> TrainingCheckpoint | None:
    """The whole checkpoint of most steps that a training of this budget may continue from; of no more than `steps`, if
    given."""
    return newest_of(find_checkpoints(folder), schedule, budget, steps)


def find_checkpoints(folder: Path) -> list[TrainingCheckpoint]:
    """The whole checkpoints in the folder, fewest steps first."""
    whole = [TrainingCheckpoint(path.parent, _standing(path)) for path in folder.glob(f"step-*/{STANDING}")]
    return sorted(whole, key=lambda one: (one.standing.steps, one.standing.decaying))


def remove_superseded(folder: Path, schedule: Schedule, budget: int) -> None:
    """Remove the checkpoints that nobody goes on from; one process does it."""
    checkpoints = find_checkpoints(folder)
    mine = {one.folder for one in checkpoints if usable(one.standing, schedule, budget)}
    for checkpoint in superseded(checkpoints, mine):
        remove(checkpoint)


def _refuse_full_disk(engine: Any, folder: Path) -> None:
    """All processes say the same, since one that raised alone would leave the others waiting."""
    trained = sum(
        getattr(parameter, "ds_numel", parameter.numel())
        for parameter in engine.module.parameters()
        if parameter.requires_grad
    )
    needed = trained * BYTES_A_PARAMETER
    room = torch.tensor([int(shutil.disk_usage(folder).free >= needed)], device=engine.device)
    distributed.all_reduce(room, op=distributed.ReduceOp.MIN)
    if not int(room):
        raise disk_full(folder, needed, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))


def _write_standing(folder: Path, standing: TrainingState) -> None:
    write_whole(folder / STANDING, json.dumps(asdict(standing), indent=1, sort_keys=True), durable=True)


def _standing(file: Path) -> TrainingState:
    return state_of(json.loads(file.read_text(encoding="utf-8")))
