"""What two gloo processes do in the tests of sharded training; each writes down what it saw, in a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from search_spaces.methods.trainers import Finetune
from tests.support.sharded_example import Spoiled, build, finetune
from workers.failures.training import DiskFull, TrainingDiverged
from workers.runtime.training_progress import Trained
from workers.training.data.tokenized_pairs import TokenizedPairs
from workers.training.loop.checkpoints import TrainingState
from workers.training.zero import saving
from workers.training.zero.engine import RankTask, ShardedEngine, train_rank

PROCESSES = 2
STEPS = {"references": finetune(), "forward_kl": finetune(loss="forward_kl")}


class Interrupted(RuntimeError):
    """Stands for the end of all processes at once."""


def process(rank: int, folder: Path, port: int) -> None:
    """One of the processes: every training of the tests, one after the other."""
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": PROCESSES, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()})
    distributed.init_process_group("gloo")
    for stage in (1, 2, 3):
        for loss, step in STEPS.items():
            run(folder, f"{loss}-{stage}", step, stage)
    for stage in (2, 3):
        interrupted(folder, f"interrupted-{stage}", stage)
    raised(folder, "spoiled-once", TrainingDiverged, lambda: spoiled(folder, "spoiled-once", 10, 11))
    raised(folder, "spoiled", TrainingDiverged, lambda: spoiled(folder, "spoiled", 10, 1000))
    full_disk(folder)
    distributed.barrier()
    distributed.destroy_process_group()


def task(folder: Path, name: str, step: Finetune, stage: Any, **changes: Any) -> RankTask:
    told: list[Any] = []
    return RankTask(
        build=changes.pop("build", partial(build, step=step)),
        pairs=TokenizedPairs(folder / "pairs"),
        step=step,
        seed=3,
        stage=stage,
        device=torch.device("cpu"),
        checkpoints=folder / "checkpoints" / changes.pop("of", name),
        out=folder / name,
        report=told.append,
        micro_tokens=64,
        checkpoint_steps=3,
        **changes,
    )


def run(folder: Path, name: str, step: Finetune, stage: Any, **changes: Any) -> Trained:
    trained = train_rank(task(folder, name, step, stage, **changes))
    if distributed.get_rank() == 0:
        (folder / f"{name}.json").write_text(json.dumps(asdict(trained)))
    return trained


def interrupted(folder: Path, name: str, stage: Any) -> None:
    """A training that ends after five steps, one that goes on from its third, and one with a larger budget."""
    step = STEPS["references"]
    whole = ShardedEngine.step
    taken: list[int] = []

    def taking(engine: ShardedEngine, state: TrainingState, rate: float) -> int:
        if len(taken) == 5:
            taken.append(-1)
            raise Interrupted
        taken.append(state.steps)
        return whole(engine, state, rate)

    ShardedEngine.step = taking  # type: ignore[method-assign]
    raised(folder, f"{name}-first", Interrupted, lambda: run(folder, name, step, stage))
    run(folder, name, step, stage)
    run(folder, f"{name}-more", replace(step, tokens=1300), stage, of=name)
    ShardedEngine.step = whole  # type: ignore[method-assign]
    (folder / f"{name}-taken.json").write_text(json.dumps(taken))


def spoiled(folder: Path, name: str, first: int, last: int) -> None:
    Spoiled.calls, Spoiled.first, Spoiled.last = 0, first, last
    step = STEPS["references"]
    run(folder, name, step, 2, build=partial(build, step=step, kind=Spoiled))


def full_disk(folder: Path) -> None:
    saving.BYTES_A_PARAMETER = 2**50
    raised(folder, "full", DiskFull, lambda: run(folder, "full", STEPS["references"], 1))


def raised(folder: Path, name: str, kind: type[Exception], work: Callable[[], Any]) -> None:
    """Write down what the work raised in this process, if it is of that kind."""
    try:
        work()
        said = ""
    except kind as error:
        said = f"{type(error).__name__}: {error}"
    (folder / f"{name}-raised-{distributed.get_rank()}.txt").write_text(said)
